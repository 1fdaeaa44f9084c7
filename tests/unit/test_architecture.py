"""The picture of the rooms is what the imports say now, and the page beside it names what there is."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("grimp", reason="the extra `dev` is not installed")

ROOT = Path(__file__).parents[2]
GRAPH = runpy.run_path(str(ROOT / "docs" / "graph.py"))
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


@pytest.fixture
def graph() -> Any:
    return GRAPH["imports"]()


def drawn(graph: Any) -> str:
    return str(GRAPH["svg"](GRAPH["house"](graph)))


def test_the_picture_is_what_the_imports_say(graph: Any) -> None:
    assert (ROOT / "docs" / "architecture.svg").read_text(encoding="utf-8") == drawn(graph), "Run: make graph"


def test_an_import_from_one_room_to_another_changes_the_picture_even_where_no_arrow_is_drawn_for_it(graph: Any) -> None:
    before = drawn(graph)
    shown = GRAPH["house"](graph)
    assert ("agent.search_benchmark", "agent.trading") not in shown.arrows
    graph.add_import(importer="agent.search_benchmark.suite", imported="agent.trading.bus")
    added = GRAPH["house"](graph)
    assert added.drawn == shown.drawn, "reports lead there already"
    assert drawn(graph) != before


def test_an_import_that_goes_up_is_not_drawn_but_refused(graph: Any) -> None:
    graph.add_import(importer="agent.search.tree", imported="agent.trading.bus")
    with pytest.raises(ValueError, match=r"agent\.search\.tree imports agent\.trading\.bus"):
        GRAPH["house"](graph)


def test_a_loose_module_has_no_room(graph: Any) -> None:
    graph.add_module("agent.loose")
    graph.add_import(importer="agent.loose", imported="market.clock")
    with pytest.raises(ValueError, match=r"agent\.loose is in no room"):
        GRAPH["house"](graph)


def test_one_picture_holds_at_most_thirty_five_rooms_and_none_overlaps_another(graph: Any) -> None:
    boxes = [
        tuple(map(int, box))
        for box in re.findall(r'class="room f\d+" x="(\d+)" y="(\d+)" width="(\d+)" height="(\d+)"', drawn(graph))
    ]
    assert len(boxes) == len(GRAPH["house"](graph).rooms) <= 35
    for i, (x, y, width, height) in enumerate(boxes):
        assert all(
            x + width < left or left + wide < x or y + height < top or top + high < y
            for left, top, wide, high in boxes[:i]
        )


def test_every_drawn_arrow_is_needed_and_every_other_follows(graph: Any) -> None:
    """The reduction loses nothing: whoever follows the drawn arrows comes to all rooms that are imported."""
    shown = GRAPH["house"](graph)

    def reached(room: str, arrows: frozenset[tuple[str, str]]) -> set[str]:
        below = {b for a, b in arrows if a == room}
        return below.union(*(reached(b, arrows) for b in below))

    for room in shown.rooms:
        assert reached(room, shown.drawn) == reached(room, shown.arrows)
    for arrow in shown.drawn:
        assert arrow[1] not in reached(arrow[0], shown.drawn - {arrow})


def test_the_page_has_a_line_for_every_room_on_its_floor() -> None:
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \| \S", PAGE, re.MULTILINE)
    floors = GRAPH["layers"]()[:-4]
    expected = [(str(len(floors) - i), room.removeprefix("agent.")) for i, floor in enumerate(floors) for room in floor]
    assert sorted(rows) == sorted(expected)


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda p: p.name)
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    named = re.findall(r"`((?:agent|backtest|strategies|tools|storage|market|tests|docs)/[\w./]*)`", page.read_text())
    assert [name for name in named if not (ROOT / name).exists()] == []
