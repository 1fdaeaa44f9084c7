"""The reference says what the code does: it is what the generator writes now."""

from __future__ import annotations

import re
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


ROOT = FOLDER.parents[1]


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda p: p.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8"))
    assert not [target for target in targets if not (page.parent / target).exists()]


def test_every_page_is_linked_from_the_first_one() -> None:
    """Nobody finds what leads nowhere."""
    first = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    named = {(ROOT / "docs" / target).resolve() for target in re.findall(r"\]\(([^)#]+)", first)}
    assert {page for page in (ROOT / "docs").rglob("*.md") if page.name != "README.md"} <= named
