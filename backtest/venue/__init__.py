"""A loopback venue: Polymarket's HTTP, websocket and chain interfaces on this machine, with faults to order."""
