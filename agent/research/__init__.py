"""Backtests: strategies on recorded markets, their results, and the uncertainty of those."""
