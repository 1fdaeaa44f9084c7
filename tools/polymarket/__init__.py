"""The write side of Polymarket: orders, signatures, the account, and the chain."""
