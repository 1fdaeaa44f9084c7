"""Gain from shared prefixes and batched branches on a real search, and the overhead of our bookkeeping.

The questions are those the product asks: a beam of depth 5, three children, two paths kept, asked level by level. The
same questions are put in four ways that take turns, so that a busy machine slows all of them alike:

* engine: shared prefixes, every question of a call in one decode;
* single: shared prefixes, one question a call;
* prefill: every question from its first token on, nothing kept;
* bare: the engine's own token rows and forks, prepared beforehand, in a plain loop over llama.cpp's C API.

Prints one JSON line: seconds of wall and of processor time, and ratios within each round. What the bare loop answers
differs a little, because its rows lie elsewhere in the cache and sums are rounded otherwise. It judges nothing.
"""

from __future__ import annotations

import asyncio
import ctypes as c
import json
import statistics
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from agent.app.settings import decision_settings
from agent.config.load import load_config
from agent.config.paths import home
from agent.decision import prompts
from agent.decision.analogs import Analogs
from agent.decision.asker import Asker
from agent.decision.budget import Budget
from agent.decision.claim_search import ClaimNode, Proposals
from agent.install import model_path
from agent.llm.engine import Question
from agent.llm.llamacpp.abi import Batch, Library
from agent.llm.llamacpp.context import THREADS, Model
from agent.llm.llamacpp.engine import LlamaEngine, open_llamacpp
from agent.llm.llamacpp.prefixes import BatchPlan, Cached, PrefixRequest, planned
from agent.llm.llamacpp.session import LlamacppSession
from agent.llm.logits import among
from agent.search.walk import search
from benchmarks.verdict import cpu_model
from market.clock import EPOCH, monotonic
from storage.analogs import BucketVocabulary
from storage.records import Phase
from storage.timeline import Timeline
from strategies.features import SCALES, Features

DEPTH, CHILDREN, WIDTH, REPEATS, PREFILLS = 5, 3, 2, 5, 1
NOW = {
    "activity": "busy",
    "bias": "near",
    "drift": "up",
    "imbalance": "buyers",
    "level": "even",
    "momentum": "rising",
    "pressure": "building",
    "spread": "tight",
    "trend": "trending",
    "volatility": "active",
}
CONTEXT, SEQUENCES = 4096, 64

Calls = list[Sequence[Question]]
Asked = dict[PrefixRequest, list[tuple[int, list[int]]]]
"""The number and the labels of each question to a prompt."""
Took = list[tuple[float, float]]
"""(wall, processor) seconds of each repeat."""


@dataclass(slots=True)
class Listening(Asker):
    """Asks, and keeps what was asked."""

    asked: Calls = field(default_factory=list)

    async def ask(self, phase: Phase, questions: Sequence[Question]) -> Sequence[tuple[float, ...]]:
        self.asked.append(questions)
        return await Asker.ask(self, phase, questions)


async def product_calls(engine: LlamaEngine, seen: Mapping[str, str] = NOW) -> Calls:
    """Every batch of questions of one search, in order."""
    caps: dict[str, object] = {"edge.budget.tokens": 10**6, "edge.cost_limit": 10**6, "edge.tree_search.depth": DEPTH}
    shape = {"edge.tree_search.branching_factor": CHILDREN, "edge.tree_search.width": WIDTH}
    settings = decision_settings(load_config(None, caps | shape), counted_in_tokens=True)
    asker = Listening(engine, Budget(settings.limits))
    nothing = Timeline(900, BucketVocabulary()).before(0)
    now = Features(500_000, 900, seen, (0.0,) * len(SCALES))
    ways = Proposals(asker, Analogs(nothing, now, (840, 960), EPOCH, 27, settings), settings)
    await search(ClaimNode(prompts.opening(seen), 0), ways.expand, ways.judge, settings.policy)
    return asker.asked


@dataclass(slots=True)
class Step:
    """One decode and what comes before it. `wanted` are (row, number of the question, its labels)."""

    dropped: tuple[int, ...]
    copies: tuple[tuple[int, int, int], ...]
    batch: Batch
    wanted: list[tuple[int, int, list[int]]]
    arrays: tuple[object, ...]  # what the batch points into


class Bare:
    """A context of its own on the same library, driven with what was prepared: no cells reserved, nothing kept."""

    def __init__(self, library: Library, model: Model, threads: int) -> None:
        self.api, self.model = library, model
        params = library.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch, params.n_seq_max = CONTEXT, 512, 512, SEQUENCES
        params.n_threads = params.n_threads_batch = threads
        params.kv_unified, params.flash_attn_type, params.no_perf = True, 0, True
        self.handle = library.llama_init_from_model(model.handle, params)
        self.memory = library.llama_get_memory(self.handle)
        self.steps: list[Step] = []
        self.questions = 0

    def prepare(self, session: LlamacppSession, calls: Calls) -> None:
        """Plan everything, evaluate the static prefix, keep the rest for `run`."""
        static = session.wanted(prompts.static())
        cached = Cached(SEQUENCES, CONTEXT, session.context.lanes)
        for plan, after in planned(cached, [static]):
            cached = after
            self.take(self._step(plan, {}))
        cached = cached.with_primed(cached.holding(static.blocks))
        for questions in calls:
            asked: Asked = {}
            for question in questions:
                labels = [session.continuation(label)[0] for label in question.labels]
                asked.setdefault(session.wanted(question.prompt), []).append((self.questions, labels))
                self.questions += 1
            for plan, after in planned(cached, list(asked)):
                if plan.flush:
                    raise RuntimeError("the search does not fit the context")
                cached = after
                self.steps.append(self._step(plan, asked))

    def _step(self, plan: BatchPlan, asked: Asked) -> Step:
        count = len(plan.rows)
        widest = max(len(row.sequences) for row in plan.rows)
        ids = np.zeros((count, widest), np.int32)
        for number, row in enumerate(plan.rows):
            ids[number, : len(row.sequences)] = row.sequences
        token = np.array([row.token for row in plan.rows], np.int32)
        position = np.array([row.position for row in plan.rows], np.int32)
        counts = np.array([len(row.sequences) for row in plan.rows], np.int32)
        at_row = ids.ctypes.data + np.arange(count, dtype=np.uint64) * np.uint64(widest * 4)
        outputs = np.array([row.wanted for row in plan.rows], np.int8)
        arrays = (token, position, counts, at_row, outputs)
        pointers = [array.ctypes.data for array in arrays]
        batch = Batch(count, pointers[0], None, *pointers[1:])
        wanted = [(rows[0], *each) for want, rows in plan.fresh.items() for each in asked.get(want, ())]
        return Step(plan.dropped, plan.copies, batch, wanted, (ids, *arrays))

    def take(self, step: Step) -> dict[int, tuple[float, ...]]:
        """The answers that the decode brings, by number of the question."""
        for sequence in step.dropped:
            self.api.llama_memory_seq_rm(self.memory, sequence, -1, -1)
        for source, target, size in step.copies:
            self.api.llama_memory_seq_cp(self.memory, source, target, 0, size)
        if self.api.llama_decode(self.handle, step.batch):
            raise RuntimeError("the bare loop failed")
        found = {}
        for at, number, tokens in step.wanted:
            address = self.api.llama_get_logits_ith(self.handle, at)
            logits = np.ctypeslib.as_array((c.c_float * self.model.vocabulary).from_address(address))
            found[number] = among(logits, tokens)
        return found

    def close(self) -> None:
        self.api.llama_free(self.handle)

    async def run(self) -> list[tuple[float, ...]]:
        """Answers in order of the questions; empty where a prompt was asked before, which takes no decode."""
        for sequence in range(1, SEQUENCES):
            self.api.llama_memory_seq_rm(self.memory, sequence, -1, -1)
        found: dict[int, tuple[float, ...]] = {}
        for step in self.steps:
            found |= self.take(step)
        return [found.get(number, ()) for number in range(self.questions)]


async def batched(engine: LlamaEngine, calls: Calls) -> list[tuple[float, ...]]:
    await engine.forget()
    return [row for questions in calls for row in (await engine.classify(questions)).probabilities]


async def single(engine: LlamaEngine, calls: Calls) -> list[tuple[float, ...]]:
    await engine.forget()
    return [(await engine.classify([q])).probabilities[0] for questions in calls for q in questions]


async def prefilled(engine: LlamaEngine, calls: Calls) -> list[tuple[float, ...]]:
    """`engine` has nothing primed."""
    found = []
    for questions in calls:
        for question in questions:
            await engine.forget()
            found.append((await engine.classify([question])).probabilities[0])
    return found


async def measured() -> dict[str, object]:
    path = model_path(home(), "smollm2-135m")
    async with open_llamacpp(path, context=CONTEXT) as engine, open_llamacpp(path, context=CONTEXT) as unprimed:
        await engine.prime(prompts.static())
        calls = await product_calls(engine)
        model = engine._session.context.model
        bare = Bare(model.library, model, THREADS)
        bare.prepare(engine._session, calls)
        arms: dict[str, Callable[[], Coroutine[object, object, list[tuple[float, ...]]]]] = {
            "engine": lambda: batched(engine, calls),
            "bare": bare.run,
            "single": lambda: single(engine, calls),
            "prefill": lambda: prefilled(unprimed, calls),
        }
        took: dict[str, Took] = {name: [] for name in arms}
        answers: dict[str, list[tuple[float, ...]]] = {}
        for repeat in range(REPEATS):
            for name, arm in arms.items():
                if name != "prefill" or repeat < PREFILLS:
                    began, burned = monotonic(), time.process_time()
                    answers[name] = await arm()
                    took[name].append((monotonic() - began, time.process_time() - burned))
        bare.close()
        return {
            "bench": "tree_search",
            "depth": DEPTH,
            "questions": sum(map(len, calls)),
            "decodes": len(bare.steps),
            "rows": sum(step.batch.n_tokens for step in bare.steps),
            "same_answers": answers["engine"] == answers["single"] == answers["prefill"],
            "furthest_from_bare": max(
                abs(a - b)
                for x, y in zip(answers["engine"], answers["bare"], strict=True)
                if y
                for a, b in zip(x, y, strict=True)
            ),
            **{f"{name}_s": _medians(each) for name, each in took.items()},
            "prefill_over_engine": _ratios(took["prefill"], took["engine"]),
            "single_over_engine": _ratios(took["single"], took["engine"]),
            "bare_over_engine": _ratios(took["bare"], took["engine"]),
            "threads": THREADS,
            "library": engine.identity.library,
            "cpu": cpu_model(),
        }


def _medians(took: Took) -> dict[str, float]:
    wall, burned = zip(*took, strict=True)
    return {"wall": round(statistics.median(wall), 3), "cpu": round(statistics.median(burned), 3)}


def _ratios(above: Took, below: Took) -> dict[str, float]:
    """Median over the repeats of one arm's seconds over the other's in the same round."""
    pairs = list(zip(above, below, strict=False))
    wall, burned = ([a[place] / b[place] for a, b in pairs] for place in (0, 1))
    return {"wall": round(statistics.median(wall), 3), "cpu": round(statistics.median(burned), 3)}


def main() -> None:
    print(json.dumps(asyncio.run(measured())))


if __name__ == "__main__":
    main()
