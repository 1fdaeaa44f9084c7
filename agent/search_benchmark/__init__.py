"""Search benchmark: the trading agent's own search code on tasks whose answers can be checked exactly.

The questions, their checkers and their solvers are generated from a seed. Nothing in this package depends on a market.
"""
