"""An exported file holds what the log holds, and nothing that a spreadsheet would run."""

from __future__ import annotations

import asyncio
import csv
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.reports.export import _cell, export
from storage.records import DecisionFilter
from tests.stores import open_store
from tests.unit.test_storage_values import begin, decision

FORMULAS = (
    '=HYPERLINK("http://evil.example","btc")', "+1+1", "-1+cmd|' /C calc'!A0", "@SUM(1)", "\t=1", "\r=1", "\n=1",
    "\uff1d1", "\uff0b1", "\uff0d1", "\uff201",
)  # fmt: skip


def exported(path: Path, slugs: tuple[str, ...]) -> list[dict[str, str]]:
    async def scope() -> None:
        async with open_store(f"sqlite:///{path.with_suffix('.db')}") as store:
            run = await begin(store)
            log = store.log(run.id)
            for number, slug in enumerate(slugs):
                made = decision(number)
                body = {"thought": {"mid": 0.5, "probability": -0.25}}
                await log.decision(replace(made, slug=slug, body=body))
            await export(store, DecisionFilter(run_id=run.id), path)

    asyncio.run(scope())
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_name_that_is_a_formula_is_text_in_the_file_and_numbers_stay_numbers(tmp_path: Path) -> None:
    rows = exported(tmp_path / "all.csv", (*FORMULAS, "btc-updown-15m"))
    assert [row["slug"] for row in rows] == [*(f"'{text}" for text in FORMULAS), "btc-updown-15m"]
    assert {row["probability"] for row in rows} == {"-0.25"}
    assert {int(row["tokens"]) for row in rows} == {int(rows[0]["tokens"])}


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_formats_that_no_spreadsheet_guesses_at_hold_the_text_as_it_is(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"all{suffix}"

    async def scope() -> None:
        async with open_store(f"sqlite:///{tmp_path / 'e.db'}") as store:
            run = await begin(store)
            await store.log(run.id).decision(replace(decision(), slug="=1+1"))
            await export(store, DecisionFilter(run_id=run.id), path)

    asyncio.run(scope())
    assert b"=1+1" in path.read_bytes() and b"'=1+1" not in path.read_bytes()


@given(st.one_of(st.floats(allow_nan=False), st.integers(), st.booleans(), st.none()))
def test_no_number_is_touched(value: float | int | bool | None) -> None:
    cell = _cell(value)
    assert cell is value or (isinstance(value, float) and math.isclose(float(str(cell)), value))


@given(st.text())
def test_no_text_of_the_file_begins_like_a_formula(text: str) -> None:
    cell = str(_cell(text))
    assert not cell.startswith(FORMULAS[0][0]) and cell[:1] not in {formula[0] for formula in FORMULAS}
    assert cell in (text, f"'{text}")
