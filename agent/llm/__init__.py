"""Engines: the port, its adapters, the recorder and replayer of answers, and the sharing of one engine."""
