"""Proof that search buys something: the trading agent's own search code on tasks whose answers can be checked exactly.

The questions, their checkers and their solvers are made here from a seed. Nothing in this package knows a market.
"""
