"""The reference says what the code does: it is what the generator writes now."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

pytest.importorskip("prometheus_client", reason="the extra `service` is not installed")
FOLDER = Path(__file__).parents[2] / "docs" / "reference"
PAGES = runpy.run_path(str(FOLDER / "generate.py"))["pages"]()


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_what_the_code_says(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == PAGES[name](), "Run: python docs/reference/generate.py"


def test_every_verb_has_an_example() -> None:
    text = PAGES["cli.md"]()
    for part in text.split("\n## ")[1:]:
        assert "```sh\n" in part, part.splitlines()[0]
