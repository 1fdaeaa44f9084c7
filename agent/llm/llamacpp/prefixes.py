"""Prefix cache planning: the tokens of a batch of prompts that must be evaluated, and the cell of each in the cache.

Pure bookkeeping over token ids; no model, library or clock.

Attention adds up over cells in vector lanes, one block of cells after the other, so the last bits of a result depend on
how a token's ancestors lie in those blocks. Here every segment of a prompt begins a block, and a block is shared whole
or not at all. A short block begins at a lane that is determined by its own tokens and those before it, so that
branches, which never see each other, mostly fit side by side into the same cells. Each prompt is then added up in the
same lanes of its blocks in the same order, whatever else is cached or evaluated at the same time. The cells left empty
are filled with placeholders, which nothing attends to.
"""

from __future__ import annotations

import zlib
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

from market.errors import EngineUnavailable

Block = tuple[int, ...]
Blocks = tuple[Block, ...]
"""Token ids of a prompt; only the last block of a segment may be short."""


def blocks_of(segments: Iterable[Sequence[int]], lanes: int) -> Blocks:
    """Each segment's tokens in blocks of `lanes`."""
    return tuple(tuple(tokens[at : at + lanes]) for tokens in segments for at in range(0, len(tokens), lanes))


def length(blocks: Iterable[Block]) -> int:
    """Tokens in the blocks."""
    return sum(map(len, blocks))


@dataclass(frozen=True, slots=True)
class PrefixRequest:
    """A prompt, and the number of its last tokens whose logits are requested."""

    blocks: Blocks
    last: int = 1


@dataclass(frozen=True, slots=True)
class PrefixRow:
    """One token to evaluate, once, on behalf of every sequence that contains it. Rows come in ascending cells."""

    token: int
    position: int
    sequences: tuple[int, ...]
    wanted: bool
    cell: int


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """A plan, carried out in this order: flush or drop, copy prefixes (source, target, tokens), evaluate the rows.

    `kept` names the sequence whose last logits are still stored, `fresh` the rows that produce them.
    """

    flush: bool
    dropped: tuple[int, ...]
    copies: tuple[tuple[int, int, int], ...]
    rows: tuple[PrefixRow, ...]
    kept: Mapping[PrefixRequest, int]
    fresh: Mapping[PrefixRequest, tuple[int, ...]]
    added: Mapping[int, Blocks]
    used: tuple[int, ...]
    top: int


@dataclass(frozen=True, slots=True)
class Cached:
    """State of the cache. Sequences in `entries` go from least to most recently used; cells are allocated upwards from
    `top`, and are freed only when everything above `floor`, the primed prefixes, is dropped together."""

    sequences: int
    cells: int
    lanes: int
    entries: Mapping[int, Blocks] = field(default_factory=dict)
    primed: frozenset[int] = frozenset()
    floor: int = 0
    top: int = 0

    def flushed(self) -> Cached:
        kept = {seq: blocks for seq, blocks in self.entries.items() if seq in self.primed}
        return replace(self, entries=kept, top=self.floor)

    def after(self, plan: BatchPlan) -> Cached:
        """The state after `plan` has been carried out."""
        entries = dict(self.flushed().entries if plan.flush else self.entries)
        for seq in plan.dropped:
            del entries[seq]
        for seq in plan.used:
            entries[seq] = entries.pop(seq)
        return replace(self, entries={**entries, **plan.added}, top=plan.top)

    def with_primed(self, sequence: int) -> Cached:
        return replace(self, primed=self.primed | {sequence}, floor=self.top)

    def holding(self, blocks: Blocks) -> int:
        """The sequence whose content is exactly `blocks`."""
        return next(seq for seq, entry in self.entries.items() if entry == blocks)

    def plan(self, wanted: Sequence[PrefixRequest], spare: int = 0) -> BatchPlan | None:
        """The plan that answers `wanted` (all different) with `spare` cells left over, after a flush if needed; None
        when they do not fit together."""
        return self._attempt(wanted, spare) or self.flushed()._attempt(wanted, spare, flush=True)

    def _attempt(self, wanted: Sequence[PrefixRequest], spare: int, *, flush: bool = False) -> BatchPlan | None:
        kept, missing = self._looked_up(wanted)
        used = tuple(dict.fromkeys([*kept.values(), *(m.source for m in missing if m.start)]))
        dropped = self._victims(len(missing), keep=self.primed.union(used))
        if dropped is None:
            return None
        free = [seq for seq in range(self.sequences) if seq not in self.entries or seq in dropped]
        added = {seq: m.want.blocks for seq, m in zip(free, missing, strict=False)}
        rows, fresh = _laid_out(missing, tuple(added), self.top, self.lanes)
        top = rows[-1].cell + 1 if rows else self.top
        if top + spare > self.cells:
            return None
        copies = tuple(
            (m.source, seq, length(m.want.blocks[: m.start])) for seq, m in zip(added, missing, strict=True) if m.start
        )
        return BatchPlan(
            flush=flush,
            dropped=dropped,
            copies=copies,
            rows=rows,
            kept=kept,
            fresh=fresh,
            added=added,
            used=used,
            top=top,
        )

    def _looked_up(self, wanted: Sequence[PrefixRequest]) -> tuple[dict[PrefixRequest, int], list[_Missing]]:
        ordered = sorted((blocks, seq) for seq, blocks in self.entries.items())
        kept: dict[PrefixRequest, int] = {}
        missing: list[_Missing] = []
        for want in wanted:
            source, shared = _longest(ordered, want.blocks)
            if want.last == 1 and self.entries.get(source) == want.blocks:
                kept[want] = source
            else:
                missing.append(_Missing(want, source, min(shared, _first_block(want))))
        return kept, missing

    def _victims(self, needed: int, keep: frozenset[int]) -> tuple[int, ...] | None:
        """The least recently used sequences to drop so that `needed` are free; None when too few may be dropped."""
        short = needed - (self.sequences - len(self.entries))
        droppable = [seq for seq in self.entries if seq not in keep]
        if short > len(droppable):
            return None
        return tuple(droppable[: max(short, 0)])


def planned(cached: Cached, wanted: Sequence[PrefixRequest], spare: int = 0) -> Iterator[tuple[BatchPlan, Cached]]:
    """Plans that together answer `wanted`, each with the state after it; usually one.

    Raises EngineUnavailable when a single prompt is too long.
    """
    left = [list(dict.fromkeys(wanted))]
    while left:
        group = left.pop()
        plan = cached.plan(group, spare)
        if plan is not None:
            cached = cached.after(plan)
            yield plan, cached
        elif len(group) > 1:
            half = len(group) // 2
            left += [group[half:], group[:half]]
        else:
            raise EngineUnavailable(
                f"A prompt of {length(group[0].blocks)} tokens does not fit the context of {cached.cells} tokens.",
                next_step="Set a larger context or shorten the prompt.",
            )


@dataclass(frozen=True, slots=True)
class _Missing:
    """A prompt to evaluate from block `start` on; the blocks before are copied from `source`."""

    want: PrefixRequest
    source: int
    start: int


@dataclass(slots=True, eq=False)
class _Node:
    """One block to evaluate from `position` on; `mark` is a hash of all tokens up to its end, `cell` its first cell."""

    block: Block
    position: int
    mark: int
    parent: _Node | None
    cell: int = -1
    wanted: set[int] = field(default_factory=set)  # indices in the block
    sequences: list[int] = field(default_factory=list)
    children: dict[Block, _Node] = field(default_factory=dict)


def _first_block(want: PrefixRequest) -> int:
    """Index of the block that holds the first requested token."""
    left = want.last
    for at in reversed(range(len(want.blocks))):
        left -= len(want.blocks[at])
        if left <= 0:
            return at
    raise ValueError("more logits are asked for than the prompt has tokens")


def _longest(ordered: Sequence[tuple[Blocks, int]], blocks: Blocks) -> tuple[int, int]:
    """The sequence with the longest common prefix, and its number of blocks; in sorted order it is a neighbour."""
    at = bisect_left(ordered, (blocks, -1))
    best = (-1, 0)
    for entry, seq in ordered[max(at - 1, 0) : at + 1]:
        shared = _common(entry, blocks)
        if shared >= best[1]:
            best = (seq, shared)
    return best


def _common(a: Blocks, b: Blocks) -> int:
    for at, (x, y) in enumerate(zip(a, b, strict=False)):
        # Identity first: segments are cached objects, so equal blocks are mostly the same object.
        if x is not y and x != y:
            return at
    return min(len(a), len(b))


def _laid_out(
    missing: Sequence[_Missing], sequences: Sequence[int], top: int, lanes: int
) -> tuple[tuple[PrefixRow, ...], dict[PrefixRequest, tuple[int, ...]]]:
    """Rows of the missing blocks in ascending cells, and the rows requested by each prompt."""
    nodes, paths = _forest(missing, sequences)
    _place(nodes, -(-top // lanes), lanes)
    rows = [
        PrefixRow(
            token=token,
            position=node.position + place,
            sequences=tuple(node.sequences),
            wanted=place in node.wanted,
            cell=node.cell + place,
        )
        for node in nodes
        for place, token in enumerate(node.block)
    ]
    rows.sort(key=lambda row: row.cell)
    at = {row.cell: number for number, row in enumerate(rows)}
    fresh = {}
    for want, path in paths.items():
        along = [at[node.cell + place] for node in path for place in range(len(node.block))]
        fresh[want] = tuple(along[-want.last :])
    return tuple(rows), fresh


def _forest(
    missing: Sequence[_Missing], sequences: Sequence[int]
) -> tuple[list[_Node], dict[PrefixRequest, list[_Node]]]:
    """The missing blocks, each once, parents before children; and the path of each prompt through them."""
    nodes: list[_Node] = []
    roots: dict[Blocks, _Node] = {}
    paths: dict[PrefixRequest, list[_Node]] = {}
    for item, seq in zip(missing, sequences, strict=True):
        begun = item.want.blocks[: item.start]
        if (at := roots.get(begun)) is None:
            at = roots[begun] = _Node(
                block=(), position=length(begun), mark=_mixed(0, chain.from_iterable(begun)), parent=None
            )
        path = paths[item.want] = []
        for block in item.want.blocks[item.start :]:
            if (below := at.children.get(block)) is None:
                position = at.position + len(at.block)
                below = at.children[block] = _Node(
                    block=block, position=position, mark=_mixed(at.mark, block), parent=at
                )
                nodes.append(below)
            at = below
            at.sequences.append(seq)
            path.append(at)
        left = item.want.last
        for node in reversed(path):
            node.wanted.update(range(max(0, len(node.block) - left), len(node.block)))
            left -= min(left, len(node.block))
    return nodes, paths


def _mixed(mark: int, tokens: Iterable[int]) -> int:
    """Hash of `mark`, standing for the tokens before, and these tokens; the same on every machine."""
    return zlib.crc32(array("i", tokens).tobytes(), mark)


def _place(nodes: Sequence[_Node], first: int, lanes: int) -> None:
    """Give each node the first block of cells from `first` on that lies after its parent's and has its lanes free."""
    taken: dict[int, int] = {}  # block of cells -> its lanes in use, as bits
    for node in nodes:
        # By the tokens alone, so that the same prompt has the same lanes whatever else is placed.
        lane = node.mark % (lanes - len(node.block) + 1)
        bits = (1 << len(node.block)) - 1 << lane
        at = first if node.parent is None or node.parent.cell < 0 else node.parent.cell // lanes + 1
        while taken.get(at, 0) & bits:
            at += 1
        taken[at] = taken.get(at, 0) | bits
        node.cell = at * lanes + lane
