"""The arms of the reasoning experiment, with the scripted engine: ledgers, budgets, repeats and the command line."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path as File
from random import Random

import pytest

from agent.cli import app
from agent.llm.engine import Engine, Prompt, Question
from agent.llm.scripted import ScriptedEngine
from agent.search.tree import OutOfBudget
from agent.search_benchmark.arms import ARMS, NODES, ArmOutcome, BenchmarkArm, Who, solve
from agent.search_benchmark.asking import Merged, TokenMeter, Uniform
from agent.search_benchmark.experiment import ExperimentResult, Setup, Subject, run
from agent.search_benchmark.results import Grid, results
from agent.search_benchmark.suite import ARITHMETIC, BUDGET, BUDGETS, TASKS, trials
from agent.search_benchmark.task import BenchmarkTask
from strategies.score import mcnemar, paired_interval
from tests.engines import loaded

SEARCHES = [a for a in ARMS if a.who is Who.MODEL and not a.text]


def subject(seed: int = 0) -> Subject:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Engine]:
        yield ScriptedEngine(seed=seed)

    return Subject(f"scripted-{seed}", 10, opened)


def setup(count: int, arms: tuple[BenchmarkArm, ...] = ARMS) -> Setup:
    return Setup(tuple(TASKS.values()), (5,), count, BUDGETS[-1], arms)


@cache
def found(count: int = 6, again: bool = False) -> ExperimentResult:
    return asyncio.run(run(setup(count), subject(), subject(1)))


async def alone(
    engine: Engine, task: BenchmarkTask, arm: BenchmarkArm, seed: int = 3, limit: int | None = None
) -> ArmOutcome:
    """One arm on one question with an engine of its own, which has only the worked examples cached."""
    prefix = Prompt((task.prefix(),))
    await engine.prime(prefix)
    (puzzle,) = task.questions(seed, 1)
    return await solve(task, puzzle, arm, Merged(engine), prefix, seed="x", limit=limit)


@pytest.mark.parametrize("arm", SEARCHES, ids=lambda a: a.name)
@pytest.mark.parametrize("task", TASKS.values(), ids=lambda t: t.name)
def test_a_search_is_charged_what_the_engine_worked_through(task: BenchmarkTask, arm: BenchmarkArm) -> None:
    async def check() -> None:
        engine = ScriptedEngine()
        outcome = await alone(engine, task, arm)
        primed = len(task.prefix().split())
        assert outcome.trail[-1].charged == engine.usage.charged - primed > 0

    asyncio.run(check())


@pytest.mark.model
def test_a_search_is_charged_what_the_embedded_model_worked_through() -> None:
    with loaded() as (runner, engine):
        runner.run(engine.prime(Prompt((ARITHMETIC.prefix(),))))
        for arm in SEARCHES:
            before = engine.usage.charged
            outcome = runner.run(alone(engine, ARITHMETIC, arm, limit=60))
            runner.run(engine.forget())
            assert outcome.trail[-1].charged == engine.usage.charged - before > 0


@pytest.mark.parametrize("arm", SEARCHES, ids=lambda a: a.name)
def test_a_limit_cuts_a_search_where_its_curve_says(arm: BenchmarkArm) -> None:
    async def check() -> None:
        for task in TASKS.values():
            whole = await alone(ScriptedEngine(), task, arm)
            for limit in (15, 40):
                cut = await alone(ScriptedEngine(), task, arm, limit=limit)
                assert cut.trail[-1].charged <= limit
                assert cut.trail[-1].correct == whole.at(limit).correct

    asyncio.run(check())


def test_nothing_is_charged_twice_and_nothing_beyond_the_limit() -> None:
    async def check() -> None:
        engine = ScriptedEngine()
        meter = TokenMeter(Merged(engine), limit=5)
        first = Question(Prompt(("examples", "one two", " three")), (" a", " b"))
        await meter.ask([first, first])
        assert meter.evaluated == 3
        await meter.ask([first, Question(first.prompt.then(" four"), (" a", " b"))])
        assert meter.evaluated == 4
        with pytest.raises(OutOfBudget, match="tokens"):
            await meter.ask([Question(first.prompt.then(" x y"), (" a", " b"))])
        assert meter.evaluated == 4

    asyncio.run(check())


def test_searches_that_wait_together_share_a_batch_and_ask_nothing_twice() -> None:
    async def check() -> None:
        engine = ScriptedEngine()
        merged = Merged(engine)
        asked = [Question(Prompt((f"q{n % 3}",)), (" a", " b")) for n in range(6)]
        rows = await asyncio.gather(*(merged.rows([q]) for q in asked))
        assert engine.usage.calls == 1
        assert rows[0] == rows[3] and len({r[0] for r in rows}) == 3
        direct = await ScriptedEngine().classify(asked[:3])
        assert [r[0] for r in rows[:3]] == list(direct.probabilities)

    asyncio.run(check())


def test_an_engine_that_fails_fails_whoever_waits() -> None:
    async def check() -> None:
        merged = Merged(ScriptedEngine(fail_after=0))
        question = Question(Prompt(("q",)), (" a", " b"))
        ended = await asyncio.gather(*(merged.rows([question]) for _ in range(3)), return_exceptions=True)
        assert all(isinstance(e, Exception) for e in ended)

    asyncio.run(check())


def test_the_same_seed_gives_the_same_records_whatever_runs_beside_it() -> None:
    first, again = found(2), found(2, again=True)
    assert first.records == again.records
    few = asyncio.run(run(setup(1, tuple(SEARCHES[:4])), subject(), None))
    names = {a.name for a in SEARCHES[:4]}
    assert few.records == [
        r for r in sorted(first.records, key=lambda r: few.records.index(r) if r in few.records else -1)
        if r.arm in names and r.number < 1
    ]  # fmt: skip


def test_every_arm_keeps_to_the_budget_and_random_arms_to_their_nodes() -> None:
    records = found().records
    assert {r.arm for r in records} == {a.name for a in ARMS}
    for record in records:
        last = record.outcome.trail[-1]
        assert last.charged <= BUDGETS[-1]
        if record.arm.startswith(("random", "every")):
            assert last.charged == 0 and last.generated <= NODES


def test_shuffled_verdicts_let_wrong_answers_pass_and_none_leave_the_model_alone() -> None:
    """With a scorer that is a little right, the checker is what the search lives on."""
    records = found().records
    right = {a.name: sum(r.outcome.trail[-1].correct for r in records if r.arm == a.name) for a in ARMS}
    assert right["best-first"] > right["best-first, shuffled verdicts"]
    assert right["best-first"] > right["best-first, no verdicts"]
    proved = [r for r in records if r.arm == "best-first" and r.outcome.stop == "proved" and r.task != "query"]
    assert proved and all(r.outcome.trail[-1].correct for r in proved)


def test_every_label_in_any_order_solves_arithmetic_when_it_has_the_nodes() -> None:
    """The checker alone is strong: ten digits at each place. That is why random moves are held to the same nodes."""
    arm = next(a for a in ARMS if a.every)
    for puzzle in ARITHMETIC.questions(1, 5):
        outcome = asyncio.run(solve(ARITHMETIC, puzzle, arm, Uniform(2), Prompt(("",)), seed="s"))
        assert outcome.trail[-1].correct and outcome.trail[-1].generated == 10 * puzzle.depth


def test_results_pair_the_arms_and_state_intervals() -> None:
    grid = Grid(BUDGET, BUDGETS, {Who.MODEL: 10, Who.LARGER: None})
    for result in results(found(), grid):
        assert result.questions == 6 and {line.arm for line in result.lines} == {a.name for a in ARMS}
        by_name = {line.arm: line for line in result.lines}
        for versus in (v for v in result.versus if v.budget == BUDGET and v.equal == "tokens"):
            ours, theirs = by_name["best-first"].accuracy.mean, by_name[versus.against].accuracy.mean
            assert versus.difference.mean == pytest.approx(ours - theirs)
            assert versus.holds == (versus.difference.low > 0)
        assert by_name["larger, greedy"].flops is None
        assert by_name["greedy"].flops == 20 * by_name["greedy"].charged


def test_mcnemar_is_the_binomial_test_on_the_questions_that_tell() -> None:
    a, b = [True] * 9 + [False] + [True] * 5, [False] * 9 + [True] + [True] * 5
    assert mcnemar(a, b) == pytest.approx(2 * (1 + 10) / 2**10)
    assert mcnemar(a, a) == 1.0


def test_a_paired_interval_holds_the_difference_and_forgets_the_difficulty() -> None:
    chance = Random(0)
    hard = [chance.random() for _ in range(200)]
    found_interval = paired_interval([h + 0.1 for h in hard], hard)
    assert found_interval is not None
    assert found_interval.low == pytest.approx(0.1) and found_interval.high == pytest.approx(0.1)


def test_the_trials_are_on_record() -> None:
    assert all(set(t) == {"task", "seed", "tried", "found"} for t in trials())


def command(*words: str) -> int:
    code = app(["evidence", "reasoning", "--engine", "scripted", *words], standalone_mode=False)
    return code if isinstance(code, int) else 0


def test_the_verb_prints_a_table_and_keeps_every_answer(tmp_path: File, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="the figures need the research extra")
    out = tmp_path / "kept"
    assert command("--quick", "--task", "countdown", "--seed", "1", "--questions", "2", "--out", str(out)) == 0
    said = capsys.readouterr().out
    assert "best-first" in said and "trials" in said.lower()
    lines = [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]
    assert len(lines) == 2 * len({line["arm"] for line in lines})
    page = (out / "report.html").read_text()
    assert page.count("<svg") == 3 and "http-equiv" not in page and "src=" not in page
    assert all((out / f"{name}.png").stat().st_size for name in ("accuracy_by_tokens", "accuracy_by_flops", "arms"))


def test_the_verb_speaks_json_and_runs_without_a_larger_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        command("--quick", "--task", "arithmetic", "--seed", "1", "--questions", "1", "--larger", "none", "--json") == 0
    )
    (result,) = json.loads(capsys.readouterr().out)["results"]
    assert result["task"] == "arithmetic"
    assert not any(line["role"] == "larger" for line in result["lines"])
