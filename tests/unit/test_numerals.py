"""Numbers as people write them are read in the only way there is, or the column is named; nothing is guessed."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.errors import Misconfigured
from tools.analysis.numerals import DecimalMark, read_numbers
from tools.analysis.reading import load_table, profile
from tools.analysis.table import ColumnKind

UNDERSTOOD: tuple[tuple[list[str | None], list[float | None]], ...] = (
    (["1", "2"], [1, 2]),
    (["1.5", "-2.25", "+3"], [1.5, -2.25, 3]),
    (["1e5", "2.5E-3"], [1e5, 0.0025]),
    (["1,5", "2,25"], [1.5, 2.25]),
    (["1.234", "0.5"], [1.234, 0.5]),
    (["1.234", "1234.5678"], [1.234, 1234.5678]),
    (["1,234", "0,5"], [1.234, 0.5]),
    (["1.234,50", "7"], [1234.5, 7]),
    (["1,234.50", "7"], [1234.5, 7]),
    (["1,234", "1,234,567"], [1234, 1234567]),
    (["1.234", "1.234.567"], [1234, 1234567]),
    (["1 234,5", "1\u00a0234\u00a0567,25", "1\u202f000"], [1234.5, 1234567.25, 1000]),
    (["1'234.5", "1\u2019000"], [1234.5, 1000]),
    (["$5", "$1,234.50", "-$2", "$-3", "($4.00)"], [5, 1234.5, -2, -3, -4]),
    (["5,50 €", "1.234,00 €", "\u22123 €"], [5.5, 1234, -3]),
    (["USD 5", "USD 7.5"], [5, 7.5]),
    (["5 EUR", "7,25 EUR"], [5, 7.25]),
    (["12%", "13,5%"], [12, 13.5]),
    (["0.512", "0.250"], [0.512, 0.25]),
    (["", " 3 ", None, "4"], [None, 3, None, 4]),
)


@pytest.mark.parametrize(("texts", "numbers"), UNDERSTOOD, ids=str)
def test_what_can_be_read_in_one_way_is_read(texts: list[str | None], numbers: list[float | None]) -> None:
    made = read_numbers(pl.Series("x", texts, dtype=pl.String))
    assert made.series.dtype.is_numeric() and made.series.to_list() == numbers and made.remark == ""
    assert made.series.name == "x"


NAMED = (
    (["1.234", "2.500"], "1.234 has thousands or decimals cannot be told"),
    (["1,234", "2,500"], "1,234 has thousands or decimals cannot be told"),
    (["1.234", "7", "999"], "1.234 has thousands or decimals cannot be told"),
    (["$1,234", "$5"], "1,234 has thousands or decimals cannot be told"),
    (["1.234,5", "1,234.5"], "not written in one way"),
    (["1,5", "1.5"], "not written in one way"),
    (["1,23,456", "5"], "not written in one way"),
    (["$5", "€5"], "more than one unit, as $ and €"),
    (["$5", "7"], "more than one unit, as none and $"),
    (["5%", "7"], "more than one unit"),
    ([*["3"] * 20, "n/a"], "1 of its 21 values cannot be read as a number, as 'n/a'"),
    ([*["3"] * 20, "--5"], "as '--5'"),
)


@pytest.mark.parametrize(("texts", "why"), NAMED, ids=str)
def test_what_cannot_be_told_stays_text_and_is_named(texts: list[str], why: str) -> None:
    made = read_numbers(pl.Series("price", texts))
    assert made.series.to_list() == texts and made.series.dtype == pl.String
    assert made.remark.startswith("Column price stays text: ") and why in made.remark


NAMES = (
    ["007", "123"],
    ["00", "1"],
    ["0123", "0456"],
    ["71321045679252212594626385532706912750332728571942532289631379312455583992563", "5"],
    ["1" * 16, "2"],
    ["10.0.0.1", "192.168.1.1"],
    ["10.100.200.100", "192.168.100.200"],
    ["1.2.3", "1.10.0"],
    ["0x12", "0x13"],
    ["abc", "def"],
    ["$", "€"],
    ["2026-03-01", "2026-03-02"],
    ["+049 30", "+049 31"],
)


@pytest.mark.parametrize("texts", NAMES, ids=str)
def test_names_of_digits_stay_names(texts: list[str]) -> None:
    made = read_numbers(pl.Series("id", texts))
    assert made.series.to_list() == texts and made.remark == ""


def test_who_says_the_mark_is_believed_where_the_file_does_not_differ() -> None:
    column = pl.Series("x", ["1.234", "2.500"])
    assert read_numbers(column, decimal=DecimalMark.POINT).series.to_list() == [1.234, 2.5]
    assert read_numbers(column, decimal=DecimalMark.COMMA).series.to_list() == [1234, 2500]
    odd = read_numbers(pl.Series("x", ["1.5", "2"]), decimal=DecimalMark.COMMA)
    assert "not written with a decimal comma, as 1.5" in odd.remark


def test_a_file_that_says_text_is_believed_where_it_holds_plain_digits() -> None:
    assert read_numbers(pl.Series("id", ["12", "13"]), typed=True).series.dtype == pl.String
    assert read_numbers(pl.Series("x", ["12,5", "13"]), typed=True).series.to_list() == [12.5, 13]


FORMS = {
    "plain": lambda v, d: f"{v:.{d}f}",
    "English": lambda v, d: f"{v:,.{d}f}",
    "German": lambda v, d: f"{v:,.{d}f}".translate(str.maketrans(",.", ".,")),
    "French": lambda v, d: f"{v:,.{d}f}".translate(str.maketrans(",.", "\u202f,")),
    "Swiss": lambda v, d: f"{v:,.{d}f}".replace(",", "'"),
}


@given(
    st.sampled_from(sorted(FORMS)),
    st.lists(st.integers(-(10**11), 10**11), min_size=1, max_size=20),
    st.integers(0, 5),
    st.sampled_from(("", "$", "€ ")),
)
def test_no_column_is_ever_read_as_other_numbers_than_were_written(
    form: str, scaled: list[int], decimals: int, unit: str
) -> None:
    """In whatever convention: what was written, or not understood."""
    values = [n / 10**decimals for n in scaled]
    texts = [unit + FORMS[form](v, decimals) for v in values]
    made = read_numbers(pl.Series("x", texts))
    if made.series.dtype == pl.String:
        assert made.remark, texts
        return
    assert made.series.to_list() == pytest.approx(values, rel=1e-12)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_table_of_a_german_spreadsheet_is_read(tmp_path: Path) -> None:
    rows = "".join(f"{n % 28 + 1:02d}.03.2026;000{n % 7};1.{n:03d},5{n % 10} €;ja\n" for n in range(100, 400))
    made = load_table(write(tmp_path / "umsatz.csv", "\ufeffTag;Filiale;Umsatz;da\n" + rows))
    kinds = {c.name: c.kind for c in profile(made.frame).columns}
    assert kinds["Umsatz"] is ColumnKind.NUMBER and kinds["Filiale"] is ColumnKind.CATEGORY
    assert kinds["Tag"] is ColumnKind.TIME and not made.remarks
    assert made.frame["Umsatz"].sum() == pytest.approx(sum(1000 + n + 0.5 + n % 10 / 100 for n in range(100, 400)))
    assert set(made.frame["Filiale"]) == {f"000{n}" for n in range(7)}


def test_one_column_that_cannot_be_told_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    rows = "".join(f"{n};{n}.{n}00;x{n % 3}\n" for n in range(1, 10))
    made = load_table(write(tmp_path / "a.csv", "n;price;who\n" + rows))
    assert [c.dtype for c in made.frame.get_columns()] == [pl.Int64, pl.String, pl.String]
    (remark,) = made.remarks.values()
    assert profile(made.frame, made.remarks).columns[1].remark == remark
    assert "Column price" in remark and "--decimal" in remark
    told = load_table(tmp_path / "a.csv", "comma")
    assert told.frame["price"].to_list() == [n * 1000 + n * 100 for n in range(1, 10)] and not told.remarks
    with pytest.raises(Misconfigured, match="no decimal mark"):
        load_table(tmp_path / "a.csv", "both")


def test_a_type_does_not_hang_on_the_first_rows(tmp_path: Path) -> None:
    rows = "".join(f"{n}\n" for n in range(1, 20_000)) + "0042\n"
    made = load_table(write(tmp_path / "ids.csv", "id\n" + rows))
    assert made.frame["id"].dtype == pl.String and made.frame["id"][-1] == "0042"
    late = load_table(write(tmp_path / "late.csv", "x\n" + "".join(f"{n}\n" for n in range(1, 20_000)) + "n/a\n"))
    assert "1 of its 20,000 values cannot be read as a number, as 'n/a'" in late.remarks["x"]


def test_what_stands_in_quotes_of_the_first_line_separates_nothing(tmp_path: Path) -> None:
    made = load_table(write(tmp_path / "q.csv", '"price, EUR, net";n\n1,5;2\n2,25;3\n'))
    assert made.frame.columns == ["price, EUR, net", "n"] and made.frame["price, EUR, net"].to_list() == [1.5, 2.25]


def test_flags_and_times_of_a_file_without_types_are_seen(tmp_path: Path) -> None:
    text = "day,at,won\n2026-03-01,2026-03-01T10:00:00Z,true\n2026-03-02,2026-03-02T10:00:00Z,FALSE\n,,\n"
    frame = load_table(write(tmp_path / "f.csv", text)).frame
    assert [c.dtype.is_temporal() for c in frame.get_columns()] == [True, True, False]
    assert sorted(frame["won"].drop_nulls().to_list()) == [False, True] and frame["won"].null_count() == 1
