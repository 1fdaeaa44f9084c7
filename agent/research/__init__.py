"""Backtests: what strategies would have done on recorded markets, what it came to, and how sure that is."""
