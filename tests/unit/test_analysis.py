"""Facts in a file are found, and nothing is said that is not in a table."""

from __future__ import annotations

import asyncio
import resource
import zipfile
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.analysis.analysis import Analysed, analyse, checked
from agent.analysis.choosing import scan
from agent.analysis.report import markdown
from agent.decision.budget import Budget
from agent.llm.scripted import ScriptedEngine
from market.errors import Misconfigured
from tests import planted
from tests.values import limits
from tools.analysis.checking import unsupported
from tools.analysis.operations import CATALOGUE, ask
from tools.analysis.reading import profile, read_table
from tools.analysis.table import ColumnKind, Table, TableFinding, number


def found_in(path: Path) -> list[TableFinding]:
    frame = read_table(path)
    return scan(frame, profile(frame))


def said(found: list[TableFinding], operation: str) -> str:
    return " ".join(s for f in found if f.operation == operation for s in f.says)


def test_what_was_put_into_sales_is_found(tmp_path: Path) -> None:
    path = planted.sales(tmp_path / "sales.csv")
    found = found_in(path)
    assert "West has the most revenue" in said(found, "by_category") or "West has the most units" in said(
        found, "by_category"
    )
    assert f"From {planted.CHANGED:%Y-%m}" in said(found, "shift").replace("2026-06-29", "2026-07-01")
    assert "discount lacks most: 37 values" in said(found, "missing")
    assert "12 rows repeat another one." in said(found, "duplicates")
    assert "units and discount go" in said(found, "correlate") + said(found, "correlate").replace(
        "discount and units", "units and discount"
    )


def test_what_was_put_into_a_sensors_log_is_found(tmp_path: Path) -> None:
    found = found_in(planted.sensor(tmp_path / "sensor.parquet"))
    assert "2026-03-02 04:00:00 until 2026-03-02 07:30:00: 12,600 seconds." in said(found, "gaps")
    assert f"pressure stayed at 1,011.25 for {planted.STUCK} rows" in said(found, "stuck")
    assert "85.5 is far from all other values of temperature" in said(found, "outliers")
    assert "temperature and humidity go closely against each other" in said(found, "correlate")


@pytest.mark.parametrize("name", ["trades.xlsx", "trades.csv"])
def test_what_was_put_into_trades_is_found(tmp_path: Path, name: str) -> None:
    found = found_in(planted.trades(tmp_path / name))
    assert "where it is carol" in said(found, "rate")
    assert "size and fee go closely together" in said(found, "correlate")
    assert "9,500 is far from all other values of size" in said(found, "outliers")


@pytest.mark.parametrize("make", [planted.sales, planted.sensor, planted.trades])
def test_every_number_that_is_said_stands_in_its_table(tmp_path: Path, make: object) -> None:
    path = tmp_path / ("file.parquet" if make is planted.sensor else "file.csv")
    frame = read_table(make(path))  # type: ignore[operator]
    shape = profile(frame)
    for operation in CATALOGUE:
        for about in operation.places(shape):
            found = ask(frame, operation.name, about)
            for sentence in found.says if found else ():
                assert unsupported(sentence, [found.table]) == [], sentence  # type: ignore[union-attr]


@given(st.floats(-1e9, 1e9, allow_nan=False).filter(lambda v: v == 0 or abs(v) > 1e-6))
def test_a_cell_as_it_is_written_is_supported(value: float) -> None:
    table = Table("t", ("a",), ((value,),))
    assert unsupported(f"It is {number(value)}.", [table]) == []


@given(st.integers(2, 10**9), st.integers(2, 10**9))
def test_another_number_is_not(one: int, other: int) -> None:
    table = Table("t", ("a",), ((one,),))
    assert (unsupported(f"It is {other:,}.", [table]) == []) == (one == other)


def test_names_with_digits_are_no_numbers() -> None:
    table = Table("t", ("region 7", "n"), (("area 51", 3),))
    assert unsupported("area 51 has 3, by region 7", [table]) == []
    assert unsupported("area 51 has 4", [table]) == ["4"]


def test_kinds_of_columns(tmp_path: Path) -> None:
    shape = profile(read_table(planted.trades(tmp_path / "trades.csv")))
    kinds = {c.name: c.kind for c in shape.columns}
    assert kinds == {
        "time": ColumnKind.TIME,
        "trader": ColumnKind.CATEGORY,
        "side": ColumnKind.CATEGORY,
        "size": ColumnKind.NUMBER,
        "fee": ColumnKind.NUMBER,
        "won": ColumnKind.FLAG,
    }


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.txt", "x", "none of"), ("gone.csv", None, "no file"), ("empty.csv", "", "cannot be read"),
        ("head.csv", "a,b\n", "no rows"), ("bad.parquet", "PAR?", "cannot be read"), ("bad.xlsx", "zip?", "cannot be"),
    ],
)  # fmt: skip
def test_a_bad_file_is_one_sentence(tmp_path: Path, name: str, text: str | None, says: str) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    with pytest.raises(Misconfigured, match=says):
        read_table(path)


def workbook(path: Path, *rows: tuple[object, ...], far: tuple[int, int] | None = None) -> Path:
    """An Excel file with these rows, and a one in a cell at `far`, counted from 0."""
    xlsxwriter = pytest.importorskip("xlsxwriter", reason="the extra `dev` is not installed")
    with xlsxwriter.Workbook(path) as book:
        sheet = book.add_worksheet()
        for at, row in enumerate(rows):
            sheet.write_row(at, 0, row)
        if far is not None:
            sheet.write(*far, 1)
    return path


def test_a_workbook_keeps_its_types_and_its_texts_are_read_as_numbers(tmp_path: Path) -> None:
    rows = [(n, f"00{n}", str(n), f"1.{n}34,5", float(n)) for n in range(1, 9)]
    frame = read_table(workbook(tmp_path / "a.xlsx", ("n", "zeros", "text", "comma", "real"), *rows))
    assert [c.dtype.is_numeric() for c in frame.get_columns()] == [True, False, False, True, True]
    assert frame["comma"].to_list() == [1034.5 + 100 * n for n in range(1, 9)] and frame["zeros"][0] == "001"


@pytest.mark.parametrize("far", [(1_048_575, 16_383), (1_048_575, 9_000)])
def test_a_cell_far_away_takes_no_memory(tmp_path: Path, far: tuple[int, int]) -> None:
    path = workbook(tmp_path / "sparse.xlsx", ("n",), (1,), far=far)
    assert path.stat().st_size < 10_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(
        Misconfigured, match=r"sparse.xlsx cannot be read: it would take more than .* of memory"
    ) as said:
        read_table(path)
    assert "\n" not in said.value.sentence()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000, "in kilobytes"


def test_a_workbook_that_unpacks_to_gigabytes_takes_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.analysis.excel.MEMORY", 400_000_000)
    small = workbook(tmp_path / "small.xlsx", ("n", "who"), (1, "a"))
    assert read_table(small).height == 1, "and one that does not is read within that"
    texts = b"<si><t>" + b"a" * 1000 + b"</t></si>"
    bomb = tmp_path / "bomb.xlsx"
    with zipfile.ZipFile(small) as book, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as made:
        for name in book.namelist():
            with made.open(name, "w") as part:
                if name != "xl/sharedStrings.xml":
                    part.write(book.read(name))
                    continue
                part.write(b'<sst xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">')
                for _ in range(100):
                    part.write(texts * 10_000)
                part.write(b"</sst>")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(Misconfigured, match=r"it would take more than 0\.4 GB of memory"):
        read_table(bomb)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def test_a_workbook_that_takes_no_end_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.analysis.excel.SECONDS", 0)
    with pytest.raises(Misconfigured, match="it would take more than 0 seconds"):
        read_table(workbook(tmp_path / "a.xlsx", ("n",), (1,)))


@pytest.mark.parametrize("question", ["", "which n0 is most by n1"])
def test_a_table_of_sixteen_thousand_columns_is_looked_at_in_bounded_time(tmp_path: Path, question: str) -> None:
    wide = pl.DataFrame({f"n{c}": [c, c + r % 7, 3] for r, c in enumerate(range(16_384))})
    wide.write_parquet(tmp_path / "wide.parquet")
    assert analysed(tmp_path / "wide.parquet", question).findings


def test_texts_are_times_where_nearly_all_that_are_there_are(tmp_path: Path) -> None:
    stamps = [f"2026-03-{1 + n % 28:02d} 10:00:{n % 60:02d}" for n in range(3000)]
    gaps = [s if n % 500 == 7 else None for n, s in enumerate(stamps)]
    one_wrong = ["soon", *stamps[1:]][::-1]
    often_wrong = [s if n % 20 else "soon" for n, s in enumerate(stamps)][::-1]
    wrong_late = stamps[:2900] + ["soon"] * 100
    pl.DataFrame(
        {"gaps": gaps, "one": one_wrong, "often": often_wrong, "late": wrong_late, "no": ["soon"] * 3000}
    ).write_parquet(tmp_path / "texts.parquet")
    kinds = {name: kind.is_temporal() for name, kind in read_table(tmp_path / "texts.parquet").schema.items()}
    assert kinds == {"gaps": True, "one": True, "often": False, "late": False, "no": False}


def test_odd_tables_are_no_error(tmp_path: Path) -> None:
    """One row, one value, nothing but gaps: every operation either says something or nothing."""
    frames = [
        pl.DataFrame({"a": [1], "b": ["x"], "t": [planted.BEGIN]}),
        pl.DataFrame({"a": [None, None], "b": ["x", "y"]}),
        pl.DataFrame({"a": [1.0, float("nan"), float("inf")], "b": ["x", None, "y"], "f": [True, False, None]}),
        pl.DataFrame({"t": [planted.BEGIN] * 12, "a": list(range(12)), "f": [True] * 11 + [False]}),
    ]
    for frame in frames:
        for finding in scan(frame, profile(frame)):
            assert finding.says


def analysed(path: Path, question: str) -> Analysed:
    engine = ScriptedEngine(seed=5)
    return asyncio.run(analyse(path, question, engine, Budget(limits(tokens=4000))))


@pytest.mark.parametrize(
    ("question", "operation", "about"),
    [
        ("which region has most revenue", "by_category", ("revenue", "region")),
        ("how many discount values are missing", "missing", ("discount",)),
        ("does the discount correlate with units", "correlate", ("units", "discount")),
    ],
)
def test_a_question_that_names_things_is_answered_whatever_the_model_says(
    tmp_path: Path, question: str, operation: str, about: tuple[str, ...]
) -> None:
    made = analysed(planted.sales(tmp_path / "sales.csv"), question)
    first = made.findings[0]
    assert first.operation == operation
    assert set(about) <= set(first.about)


def test_the_answer_is_one_of_the_sentences_that_tables_bear_out(tmp_path: Path) -> None:
    made = analysed(planted.sales(tmp_path / "sales.csv"), "which region has most revenue")
    assert made.headline in made.says
    assert made.tokens["answer"] > 0
    text = markdown(made, {})
    assert text.startswith("# which region has most revenue")
    assert "| West |" in text
    assert analysed(planted.sales(tmp_path / "sales.csv"), "").headline == ""


def test_what_no_table_bears_out_is_not_said() -> None:
    table = Table("t", ("a",), ((1,), (2,)))
    finding = TableFinding("top", ("a",), table, ("There are 2.", "There are 3."), 1.0)
    (kept,), dropped = checked([finding])
    assert (kept.says, dropped) == (("There are 2.",), ("There are 3.",))
