"""Decisions made again: from recorded answers, or with something taken away (ablations)."""
