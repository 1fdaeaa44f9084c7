"""The pages that a newcomer reads first are short, lead somewhere, and agree with the package."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "picture" / "decision.svg"


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_changelog_begins_with_the_version_of_the_package() -> None:
    newest = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d$", text_of("CHANGELOG.md"), re.MULTILINE)[0]
    assert newest == tomllib.loads(text_of("pyproject.toml"))["project"]["version"]


@pytest.mark.parametrize(("name", "most"), [("README.md", 700), ("CONTRIBUTING.md", 600), ("AGENTS.md", 300)])
def test_what_is_read_first_is_short(name: str, most: int) -> None:
    assert len(text_of(name).split()) < most


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "AGENTS.md", "CHANGELOG.md"])
def test_links_of_the_first_pages_lead_somewhere(name: str) -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", text_of(name))
    assert not [target for target in targets if not (ROOT / target).exists()]


def test_the_readme_shows_a_decision_and_two_commands() -> None:
    readme = text_of("README.md")
    assert f"]({PICTURE.relative_to(ROOT)})" in readme
    assert re.search(r"^make run\b", readme, re.MULTILINE) and re.search(r"^make test\b", readme, re.MULTILINE)


def test_the_picture_of_a_decision_stands_alone_in_light_and_dark() -> None:
    text = PICTURE.read_text(encoding="utf-8")
    root = ET.fromstring(text)  # noqa: S314 - a file of ours
    assert root.attrib["role"] == "img" and root.attrib["aria-label"]
    assert "prefers-color-scheme: dark" in text
    assert not re.findall(r"(?:href|src|url)\s*[=(]", text), "nothing is asked of any other place"
    drawn = {element.attrib.get("class", "") for element in root.iter()}
    assert {"tree", "path"} <= drawn
    assert any("picked" in name.split() for name in drawn), "the chosen path stands out"
