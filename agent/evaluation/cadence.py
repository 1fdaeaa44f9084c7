"""Cadence of decisions."""

from __future__ import annotations

PER_DAY = 288.0
"""Five-minute decisions a day on one market."""
