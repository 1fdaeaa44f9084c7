"""Decisions made again: from recorded answers (replay), or with parts removed (ablations)."""
