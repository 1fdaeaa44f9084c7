"""Canonical text of values, so that equal values have equal hashes on every machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum
from math import isfinite
from types import NoneType
from typing import Any

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]


def plain(value: object) -> Json:
    """Convert a value to JSON types: decimals and instants as text, dataclasses as objects. Raises TypeError or
    ValueError for values without a canonical text."""
    kind = type(value)
    form = _FORMS.get(kind)
    if form is None:
        form = _FORMS[kind] = _form(kind)
    return form(value)


_FORMS: dict[type[Any], Callable[[Any], Json]] = {}


def _form(kind: type[Any]) -> Callable[[Any], Json]:
    """Converter of a type, looked up once per type: an order alone has a dozen values."""
    # First of all: members of StrEnum and IntEnum are strings and integers, too.
    if issubclass(kind, Enum):
        return lambda value: plain(value.value)
    if issubclass(kind, bool | int | str | NoneType):
        return _as_it_is
    for known, form in ((float, _finite), (Decimal, _decimal), (datetime, datetime.isoformat)):
        if issubclass(kind, known):
            return form
    if is_dataclass(kind):
        names = tuple(f.name for f in fields(kind))
        return lambda value: {name: plain(getattr(value, name)) for name in names}
    if issubclass(kind, Mapping):
        return lambda value: {str(k): plain(v) for k, v in value.items()}
    if issubclass(kind, Sequence):
        return lambda value: [plain(v) for v in value]
    raise TypeError(f"{kind.__name__} has no canonical form")


def _as_it_is(value: Any) -> Json:
    found: Json = value
    return found


def _finite(value: float) -> Json:
    if not isfinite(value):
        raise ValueError(f"{value} has no place in a record")
    return value


def _decimal(value: Decimal) -> Json:
    # Normalized: 0.50 and 0.5 are equal, and so must their texts be.
    """Decimal as plain digits without an exponent."""
    return f"{value.normalize():f}"


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def encoded(value: Json) -> str:
    """Canonical text of a value that consists of JSON types already; skips the conversion."""
    return _ENCODER.encode(value)


def canonical(value: object) -> str:
    """Canonical text: JSON with sorted keys and no spaces."""
    return encoded(plain(value))


def digest(value: object) -> str:
    """SHA-256 of the canonical text, in hexadecimal."""
    return digest_of(canonical(value))


def digest_of(text: str) -> str:
    """SHA-256 of a text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()
