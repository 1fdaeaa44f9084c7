"""Trading: the loop, cycle, traders, execution, kill switch and in-process events."""
