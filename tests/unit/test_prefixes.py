"""The cache's bookkeeping: what is shared, where cells lie, what is dropped when room runs short."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.llm.llamacpp.prefixes import BatchPlan, Blocks, Cached, PrefixRequest, blocks_of, length, planned
from market.errors import EngineUnavailable

LANES = 4
segment = st.lists(st.integers(0, 2), min_size=1, max_size=6)
prompt = st.lists(segment, min_size=1, max_size=4).map(lambda segments: blocks_of(segments, LANES))
batches = st.lists(st.lists(prompt, min_size=1, max_size=6), min_size=1, max_size=5)


def answer(cached: Cached, prompts: list[Blocks]) -> tuple[list[BatchPlan], Cached]:
    plans = []
    for plan, after in planned(cached, [PrefixRequest(blocks) for blocks in prompts]):
        plans.append(plan)
        cached = after
    return plans, cached


class World:
    """The real cache in miniature: each sequence's token, position and cell, as the plans leave them."""

    def __init__(self) -> None:
        self.sequences: dict[int, list[tuple[int, int]]] = defaultdict(list)

    def carry_out(self, plan: BatchPlan) -> None:
        if plan.flush:
            self.sequences.clear()
        for seq in plan.dropped:
            del self.sequences[seq]
        for source, target, tokens in plan.copies:
            self.sequences[target] = self.sequences[source][:tokens]
        for row in plan.rows:
            for seq in row.sequences:
                assert row.position == len(self.sequences[seq])
                self.sequences[seq].append((row.token, row.cell))


@given(batches)
def test_every_prompt_lies_whole_in_blocks_of_its_own_shape(asked: list[list[Blocks]]) -> None:
    """Each block in one block of cells, the next one in a later one, at lanes that the prompt alone settles."""
    cached, world = Cached(sequences=6, cells=128, lanes=LANES, floor=LANES, top=LANES), World()
    shapes: dict[Blocks, int] = {}
    for prompts in asked:
        for plan, after in planned(cached, [PrefixRequest(blocks) for blocks in prompts]):
            cached = after
            world.carry_out(plan)
            cells = [row.cell for row in plan.rows]
            assert cells == sorted(set(cells))
            for want, seq in [*plan.kept.items(), *((w, s) for s, b in plan.added.items() for w in [PrefixRequest(b)])]:
                held = world.sequences[seq]
                assert [token for token, _ in held] == [token for block in want.blocks for token in block]
                lies = [cell for _, cell in held]
                homes = []
                for at, block in enumerate(want.blocks):
                    begun = length(want.blocks[:at])
                    mine = lies[begun : begun + len(block)]
                    assert mine == list(range(mine[0], mine[0] + len(block)))
                    assert mine[0] // LANES == mine[-1] // LANES
                    assert shapes.setdefault(want.blocks[: at + 1], mine[0] % LANES) == mine[0] % LANES
                    homes.append(mine[0] // LANES)
                assert homes == sorted(set(homes)) and homes[0] > 0
        assert len(cached.entries) <= 6 and cached.top <= 128


def test_short_branches_lie_side_by_side() -> None:
    """Sixty-four one-token branches in fewer than a third of the blocks that one block each would take."""
    stem = blocks_of([[1, 2, 3, 4, 5, 6, 7, 8]], 8)
    cached = Cached(sequences=128, cells=1024, lanes=8)
    plan = cached.plan([PrefixRequest((*stem, (token,))) for token in range(64)])
    assert plan is not None and len(plan.rows) == 72
    assert plan.top <= 8 + 64 * 8 // 3


@given(st.lists(prompt, min_size=1, max_size=6))
def test_a_shared_block_is_evaluated_once_and_a_second_time_not_at_all(prompts: list[Blocks]) -> None:
    plans, cached = answer(Cached(sequences=16, cells=256, lanes=LANES), prompts)
    distinct = {blocks[: at + 1] for blocks in prompts for at in range(len(blocks))}
    assert sum(len(plan.rows) for plan in plans) == sum(len(path[-1]) for path in distinct)
    again, _ = answer(cached, prompts)
    assert sum(len(plan.rows) for plan in again) == 0


def test_primed_prefixes_stay_when_all_else_goes() -> None:
    prefix = blocks_of([[1, 2, 3, 4, 5]], LANES)
    _, cached = answer(Cached(sequences=4, cells=32, lanes=LANES), [prefix])
    cached = cached.with_primed(cached.holding(prefix))
    for number in range(20):
        longer = blocks_of([[1, 2, 3, 4, 5], [number] * 6], LANES)
        plans, cached = answer(cached, [longer])
        assert sum(len(plan.rows) for plan in plans) == 6
        assert prefix in cached.entries.values()
    assert list(cached.flushed().entries.values()) == [prefix]


def test_the_least_recently_used_goes_first() -> None:
    cached = Cached(sequences=2, cells=64, lanes=LANES)
    first, second, third = (blocks_of([[number, 9]], LANES) for number in range(3))
    for blocks in (first, second, first, third):
        _, cached = answer(cached, [blocks])
    assert set(cached.entries.values()) == {first, third}


def test_a_prompt_longer_than_the_context_is_refused() -> None:
    with pytest.raises(EngineUnavailable, match="40 tokens does not fit the context of 32"):
        answer(Cached(sequences=4, cells=32, lanes=LANES), [blocks_of([[1] * 40], LANES)])


def test_logits_can_be_wanted_for_several_last_tokens() -> None:
    blocks = blocks_of([[1, 2, 3], [4, 5, 6, 7, 8]], LANES)
    cached = Cached(sequences=4, cells=32, lanes=LANES)
    plan = cached.plan([PrefixRequest(blocks, 5)])
    assert plan is not None
    assert [plan.rows[at].token for at in plan.fresh[PrefixRequest(blocks, 5)]] == [4, 5, 6, 7, 8]
    assert [row.token for row in plan.rows if row.wanted] == [4, 5, 6, 7, 8]
    again = cached.after(plan).plan([PrefixRequest(blocks, 2)])
    assert again is not None
    assert [row.token for row in again.rows] == [4 + at for at in range(4)] + [8]
    assert length(blocks) == 8
