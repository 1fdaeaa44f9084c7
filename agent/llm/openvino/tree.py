"""Cache tree: the tokens of a batch that must be evaluated, where all prompts lie in one cache as one tree.

Pure bookkeeping over token ids; no model, no clock. A cell is one evaluated token; its parent is
the cell of the token before it, so a prompt is a path down the tree and a shared prefix is stored once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from market.errors import EngineUnavailable

Floats = NDArray[np.float32]
Tokens = tuple[int, ...]

NONE = -1
"""Parent of a first token."""

KEPT = 256
"""Maximum number of cells beyond the primed ones whose logits are kept."""


@dataclass(frozen=True, slots=True)
class CacheRequest:
    """A prompt, and the number of its last tokens whose logits are requested."""

    tokens: Tokens
    last: int = 1


@dataclass(frozen=True, slots=True)
class CacheRow:
    """One token to evaluate. `answers` is the cell whose logits it yields, NONE for none."""

    token: int
    position: int
    parent: int
    answers: int


@dataclass(frozen=True, slots=True)
class CacheStep:
    """A step: flush if set, then evaluate the rows; each prompt's logits are then those of its cells."""

    flush: bool
    rows: tuple[CacheRow, ...]
    asked: dict[CacheRequest, tuple[int, ...]]


@dataclass(slots=True)
class CacheTree:
    """State of the cache: its cells in the order of their evaluation. Those below `floor` are primed and stay.

    `known` are the cells whose logits are stored, oldest first.
    """

    room: int
    parents: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    children: dict[tuple[int, int], int] = field(default_factory=dict)  # (parent, token) -> cell
    known: dict[int, None] = field(default_factory=dict)
    floor: int = 0

    @property
    def top(self) -> int:
        return len(self.parents)

    def copy(self) -> CacheTree:
        return CacheTree(
            room=self.room,
            parents=self.parents[:],
            positions=self.positions[:],
            children=self.children.copy(),
            known=self.known.copy(),
            floor=self.floor,
        )

    def cut(self, top: int) -> None:
        """Drop all cells from `top` on."""
        del self.parents[top:], self.positions[top:]
        self.children = {way: cell for way, cell in self.children.items() if cell < top}
        self.known = {cell: None for cell in self.known if cell < top}

    def steps(self, wanted: Sequence[CacheRequest], spare: int = 0) -> Iterator[CacheStep]:
        """Steps that together answer `wanted`, leaving room for `spare` cells; usually one. Each changes the tree.

        Raises EngineUnavailable when a prompt alone is too long.
        """
        left = [list(dict.fromkeys(wanted))]
        while left:
            group = left.pop()
            step = self._fitted(group, spare)
            if step is not None:
                yield step
            elif len(group) > 1:
                half = len(group) // 2
                left += [group[half:], group[:half]]
            else:
                raise EngineUnavailable(
                    f"A prompt of {len(group[0].tokens)} tokens does not fit the context of {self.room} tokens.",
                    next_step="Set a larger context or shorten the prompt.",
                )

    def end_of(self, tokens: Tokens) -> int:
        """The cell of the last of `tokens`, all of which are in the tree."""
        cell = NONE
        for token in tokens:
            cell = self.children[cell, token]
        return cell

    def grow(self, parent: int, position: int) -> int:
        """Add a cell that no prompt matches; returns its number."""
        self.parents.append(parent)
        self.positions.append(position)
        return self.top - 1

    def mask(self, first: int, end: int) -> Floats:
        """[end - first, end]: zero where a cell from `first` on attends to a cell, minus infinity elsewhere."""
        found = np.full((end - first, end), -np.inf, np.float32)
        for row, cell in enumerate(range(first, end)):
            parent = self.parents[cell]
            if parent >= first:
                # A row attends to all that its parent attends to: copying the parent's row saves the walk up to the
                # root.
                found[row, :cell] = found[parent - first, :cell]
            else:
                while parent != NONE:
                    found[row, parent] = 0.0
                    parent = self.parents[parent]
            found[row, cell] = 0.0
        return found

    def _fitted(self, group: Sequence[CacheRequest], spare: int) -> CacheStep | None:
        """The step for a group, after a flush if needed; None, changing nothing, if it never fits."""
        before = self.copy()
        for flush in (False, True):
            if flush:
                self.cut(self.floor)
            rows: list[CacheRow] = []
            asked = {want: self._asked(want, rows) for want in group}
            if self.top + spare <= self.room:
                for row in rows:
                    if row.answers != NONE:
                        self.known[row.answers] = None
                self._keep_newest()
                return CacheStep(flush, tuple(rows), asked)
            self._restore(before)
        return None

    def _keep_newest(self) -> None:
        """Drop the oldest logits beyond `KEPT`; those of primed cells stay."""
        others = [cell for cell in self.known if cell >= self.floor]
        for cell in others[: max(0, len(others) - KEPT)]:
            del self.known[cell]

    def _restore(self, before: CacheTree) -> None:
        kept = before.copy()
        self.parents, self.positions = kept.parents, kept.positions
        self.children, self.known = kept.children, kept.known

    def _asked(self, want: CacheRequest, rows: list[CacheRow]) -> tuple[int, ...]:
        """The cells whose logits are requested; rows are added for missing ones."""
        cell, cells = NONE, []
        first = len(want.tokens) - want.last
        if first < 0:
            raise ValueError("more logits are asked for than the prompt has tokens")
        for position, token in enumerate(want.tokens):
            parent, cell = cell, self.children.get((cell, token), NONE)
            if cell == NONE:
                cell = self.children[parent, token] = self.grow(parent, position)
                rows.append(CacheRow(token=token, position=position, parent=parent, answers=NONE))
            if position >= first:
                cells.append(cell)
                if cell not in self.known:
                    self._answer(cell, CacheRow(token=token, position=position, parent=parent, answers=cell), rows)
        return tuple(cells)

    def _answer(self, cell: int, row: CacheRow, rows: list[CacheRow]) -> None:
        """Make the cell's row yield logits; a cell evaluated before without them is evaluated once more."""
        at = cell - (self.top - len(rows))
        if at >= 0:
            rows[at] = row
        elif all(other.answers != cell for other in rows):
            self.grow(row.parent, row.position)
            rows.append(row)
