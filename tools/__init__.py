"""The hands: order and wallet ports, risk limits, kill switch, keystore, and the tables of the analysis."""
