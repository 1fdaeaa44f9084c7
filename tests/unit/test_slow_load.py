"""Progress while a model loads: nothing where it is quick, quarters where it is slow, from the loop's thread."""

from __future__ import annotations

import asyncio
import threading

import pytest

from agent.app import engines


def heard(moment: float, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    monkeypatch.setattr(engines, "MOMENT", moment)
    said: list[tuple[str, bool]] = []

    async def scenario() -> None:
        here = threading.get_ident()
        progress = engines.slow_load(lambda line: said.append((line, threading.get_ident() == here)))
        await asyncio.to_thread(lambda: [progress(share / 100) for share in range(101)])
        await asyncio.sleep(0)

    asyncio.run(scenario())
    return said


def test_a_slow_load_is_told_in_quarters(monkeypatch: pytest.MonkeyPatch) -> None:
    assert heard(0.0, monkeypatch) == [(f"loading the model ({share} %)", True) for share in (25, 50, 75)]


def test_a_quick_load_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert heard(3600.0, monkeypatch) == []
