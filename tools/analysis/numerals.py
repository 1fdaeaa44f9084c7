"""Numbers as people write them: decimal comma, thousands separators, currency signs. A column is read where all of its
values can be read in one way only; else it stays text, and a remark says why.

What has leading zeros, or more digits than a calculation keeps, is a name and no number.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import polars as pl


class DecimalMark(StrEnum):
    """What stands before decimals. With `UNKNOWN` a column must show it by itself."""

    UNKNOWN = ""
    POINT = "point"
    COMMA = "comma"


@dataclass(frozen=True, slots=True)
class Reading:
    """A column after it was read: as numbers, or as it was. `remark` is a sentence where it looks like numbers and is
    not understood, else empty."""

    series: pl.Series
    remark: str = ""


_TRIED, _MOSTLY = 1000, 0.9
"""Number of values looked at first, and the share of them that must look like numbers before all are."""
_GAP = "[ \u00a0\u2009\u202f]"
_APOSTROPHE = "['\u2019]"
_SIGN = "[-+\u2212]"
_UNIT = (
    r"(?:\p{Sc}|USDC|USDT|USD|EUR|GBP|CHF|JPY|CNY|INR|AUD|CAD|NZD|SEK|NOK|DKK|PLN|CZK|HUF|BRL|MXN|ZAR|SGD|HKD|KRW|TRY)"
)
_DIGITS = r"(?:[0-9]|[.,][0-9])[0-9.,'\u2019 \u00a0\u2009\u202f]*(?:[eE][-+]?[0-9]{1,3})?"
_WRITTEN = (
    rf"^(?P<open>\()?(?P<before>{_SIGN})?(?P<ahead>{_UNIT})?{_GAP}?(?P<after>{_SIGN})?(?P<digits>{_DIGITS}?){_GAP}?"
    rf"(?P<behind>{_UNIT}|%)?(?P<close>\))?$"
)
_PLAIN = rf"^{_SIGN}?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{{1,3}})?$"
_NO_NUMBER = r"(?i)^[-+]?(?:nan|inf|infinity)$"
_DOTTED = r"^[0-9]+(?:\.[0-9]+){2,}$"
"""An address, a version or a day: never a number, unless in groups of three."""
_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[0-9]{1,2})"
_ADDRESS = rf"^{_OCTET}(?:\.{_OCTET}){{3}}$"
_LEADING_ZERO = "^0[0-9]"
_TOO_LONG = "^[0-9]{16,}"
"""Integers of 2**53 and more lose digits in every sum: an id, as that of a token."""


def _shape(decimal: str, thousands: str) -> str:
    """Digits with that decimal mark, in groups of three or in none."""
    grouped = "|".join(f"[1-9][0-9]{{0,2}}(?:{mark}[0-9]{{3}})+" for mark in (thousands, _GAP, _APOSTROPHE))
    return rf"^(?:(?:{grouped}|[0-9]+)(?:{decimal}[0-9]*)?|{decimal}[0-9]+)(?:[eE][-+]?[0-9]{{1,3}})?$"


_SHAPES = {DecimalMark.POINT: _shape(r"\.", ","), DecimalMark.COMMA: _shape(",", r"\.")}


def read_numbers(series: pl.Series, *, decimal: DecimalMark = DecimalMark.UNKNOWN, typed: bool = False) -> Reading:
    """Read a column of text. `typed` is True if the file itself says that it is text: then plain digits stay so."""
    texts = series.str.strip_chars()
    if not _like_numbers(texts):
        return Reading(series)
    # Each value once: a column of millions has few.
    known = texts.unique(maintain_order=True).drop_nulls()
    known = known.filter(known != "")
    parts = _parts(known)
    digits = parts["digits"].drop_nulls()
    if not digits.len() or digits.str.contains(_LEADING_ZERO).any() or digits.str.contains(_TOO_LONG).any():
        return Reading(series)
    grouped = digits.str.contains(_SHAPES[DecimalMark.COMMA]).all() and not digits.str.contains(_ADDRESS).all()
    if digits.str.contains(_DOTTED).all() and not grouped:
        return Reading(series)
    if typed and known.str.contains("^[0-9]+$").all():
        return Reading(series)
    why = _wrong(texts, known, parts) or _unclear(digits, decimal)
    if why:
        return Reading(series, f"Column {series.name} stays text: {why}.")
    mark = decimal or next(m for m, shape in _SHAPES.items() if digits.str.contains(shape).all())
    return Reading(_values(texts, mark).alias(series.name))


def _like_numbers(texts: pl.Series) -> bool:
    known = texts.drop_nulls()
    some = known.gather_every(max(1, known.len() // _TRIED))
    some = some.filter(some != "")
    likely = some.str.contains(_WRITTEN) | some.str.contains(_NO_NUMBER)
    return bool(some.len()) and likely.sum() >= _MOSTLY * some.len()


def _parts(texts: pl.Series) -> pl.DataFrame:
    """Signs, units, parentheses and digits of each value; digits are null where it is no number."""
    if texts.str.contains(_PLAIN).all():  # by far the usual case, and a tenth of the work
        return pl.DataFrame({"digits": texts.str.strip_chars_start("+-\u2212")}).with_columns(
            negative=texts.str.contains("^[-\u2212]"), unit=pl.lit(""), odd=pl.lit(False)
        )
    found = texts.str.extract_groups(_WRITTEN).struct.unnest()
    missing = texts.str.contains(_NO_NUMBER)
    signs = [pl.col(name).is_not_null() for name in ("before", "after", "open")]
    return found.select(
        digits=pl.when(missing).then(None).otherwise(pl.col("digits").str.strip_chars()),
        negative=pl.any_horizontal(
            pl.col("before").is_in(["-", "\u2212"]), pl.col("after").is_in(["-", "\u2212"]), signs[2]
        ).fill_null(value=False),
        unit=pl.coalesce("ahead", "behind", pl.lit("")),
        odd=(pl.col("digits").is_null() & ~pl.Series(missing))
        | (pl.sum_horizontal(signs) > 1)
        | (pl.col("open").is_null() != pl.col("close").is_null())
        | (pl.col("ahead").is_not_null() & pl.col("behind").is_not_null()),
    )


def _wrong(texts: pl.Series, known: pl.Series, parts: pl.DataFrame) -> str:
    """Why the values of a column do not go together as numbers; empty if they do. `known` are those that it has."""
    odd = known.filter(parts["odd"])
    if odd.len():
        present = texts.len() - texts.null_count() - (texts == "").sum()
        many = texts.is_in(odd.to_list()).sum()
        return f"{many:,} of its {present:,} values cannot be read as a number, as {str(odd[0])[:40]!r}"
    units = sorted(parts.filter(pl.col("digits").is_not_null())["unit"].unique().to_list())
    if len(units) > 1:
        return f"its values are in more than one unit, as {' and '.join(c or 'none' for c in units[:3])}"
    return ""


def _unclear(digits: pl.Series, decimal: DecimalMark) -> str:
    """Why the decimal mark is not clear; empty if it is."""
    fits = [mark for mark, shape in _SHAPES.items() if digits.str.contains(shape).all()]
    if decimal:
        return (
            "" if decimal in fits else f"its numbers are not written with a decimal {decimal}{_such(digits, decimal)}"
        )
    if not fits:
        return "its numbers are not written in one way" + _such(digits, DecimalMark.POINT)
    marked = digits.filter(digits.str.contains("[.,]"))
    if len(fits) == 1 or not marked.len():
        return ""
    return (
        f"whether {marked[0]} has thousands or decimals cannot be told; say it with --decimal point or --decimal comma"
    )


def _such(digits: pl.Series, mark: DecimalMark) -> str:
    """An example of digits that are not written with that mark."""
    return f", as {digits.filter(~digits.str.contains(_SHAPES[mark]))[0]}"


def _values(texts: pl.Series, mark: DecimalMark) -> pl.Series:
    """Numbers of a column that is understood: whole ones as integers."""
    if mark is DecimalMark.POINT and (made := _plain(texts)) is not None:
        return made
    parts = _parts(texts.fill_null(""))
    point = pl.col("digits").str.replace_all("[^0-9.,eE+-]", "")
    if mark is DecimalMark.COMMA:
        point = point.str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True)
    else:
        point = point.str.replace_all(",", "", literal=True)
    sign = pl.when(pl.col("negative")).then(-1).otherwise(1)
    numbers = parts.select(texts=texts, point=point, sign=sign)
    whole = numbers["point"].drop_nulls().str.contains("^[0-9]{1,15}$").all()
    # What has no digits is nan or infinite, or is missing.
    plain = pl.col("texts").cast(pl.Float64, strict=False)
    value = pl.col("point").cast(pl.Float64) * pl.col("sign")
    made = numbers.select(pl.when(pl.col("point").is_null()).then(plain).otherwise(value)).to_series()
    no_number = made.is_nan().any() or made.is_infinite().any()
    return (
        numbers.select(pl.col("point").cast(pl.Int64) * pl.col("sign")).to_series() if whole and not no_number else made
    )


def _plain(texts: pl.Series) -> pl.Series | None:
    """Numbers of a column as a program writes them; None if any is written otherwise. A tenth of the work."""
    filled = texts.set(texts == "", None) if (texts == "").any() else texts
    for kind in (pl.Int64, pl.Float64):
        made = filled.cast(kind, strict=False)
        if made.null_count() == filled.null_count():
            return made
    return None
