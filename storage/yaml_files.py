"""Bounded reading of the owner's YAML files: neither a huge file nor one that expands by aliases takes the memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

MOST_BYTES = 1 << 20
MOST_VALUES = 100_000
"""Keys and values of a file, those that an alias repeats counted each time."""


def read_yaml(path: Path) -> Any:
    """Plain values of a YAML file. Raises OSError, and ValueError with the end of a sentence about the file."""
    with path.open("rb") as file:
        raw = file.read(MOST_BYTES + 1)
    if len(raw) > MOST_BYTES:
        raise ValueError(f"is larger than {MOST_BYTES:,} bytes")
    try:
        return parse_yaml(raw.decode("utf-8"))
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        raise ValueError("is not valid YAML" + (f" (line {where.line + 1})" if where else "")) from None
    except UnicodeDecodeError:
        raise ValueError("is not valid YAML") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def parse_yaml(text: str) -> Any:
    """Plain values of a YAML text. Raises ValueError, YAMLError or RecursionError."""
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        # Before anything is constructed: a merge key copies what its alias names.
        _must_be_bounded(node)
        return _constructed(loader, node)
    finally:
        loader.dispose()


def _must_be_bounded(root: yaml.Node) -> None:
    waiting, seen = [root], 0
    while waiting:
        node, seen = waiting.pop(), seen + 1
        if seen > MOST_VALUES:
            raise ValueError(f"holds more than {MOST_VALUES:,} values, counting what its aliases repeat")
        if isinstance(node, yaml.MappingNode):
            waiting += [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value


def _constructed(loader: yaml.SafeLoader, node: yaml.Node) -> Any:
    try:
        return loader.construct_document(node)
    except (ValueError, OverflowError):  # a date or number that there is not, as 2026-13-01
        raise ValueError("is not valid YAML: it has a date or a number that cannot be") from None
