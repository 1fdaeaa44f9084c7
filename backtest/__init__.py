"""Simulated worlds: recorded feeds, matching engine, paper exchange, loopback venue, and the import of recordings."""
