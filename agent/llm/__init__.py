"""Engines: the port, its adapters, the recorded one that replays answers, and what shares their work."""
