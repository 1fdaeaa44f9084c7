"""The trading loop: cycle, traders, execution, kill switch, in-process events."""
