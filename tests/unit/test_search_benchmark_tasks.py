"""The reasoning tasks: solvers against brute force, generators, and checkers that cannot be fooled."""

from fractions import Fraction
from itertools import permutations, product
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.search_benchmark.arithmetic import ArithmeticChain, chain
from agent.search_benchmark.countdown import Countdown, countdown, moves, result, solve
from agent.search_benchmark.query import lookup, week
from agent.search_benchmark.suite import TASKS
from agent.search_benchmark.task import Path, Puzzle, blind, chance_of_guessing, read_path, written
from storage.pricetable import COLUMNS, PriceTable, Query
from tests.profiles import examples

unhurried = examples(40)

seeds = st.integers(0, 10_000)
names = st.sampled_from(sorted(TASKS))


def complete(puzzle: Puzzle, chance: Random) -> Path:
    """A path of uniform choices."""
    path: Path = ()
    while puzzle.answer(path) is None and len(path) < puzzle.depth:
        path = (*path, chance.choice(puzzle.choice(path).labels))
    return path


def reachable(numbers: tuple[int, ...]) -> set[int]:
    """Every value of (a o b) o c, either way round, by the rules of Countdown, in rational arithmetic."""

    def apply(a: Fraction, sign: str, b: Fraction) -> Fraction | None:
        if sign in "x/" and (a == 1 or b == 1):
            return None
        if sign == "/":
            return a / b if (a / b).denominator == 1 else None
        made = {"+": a + b, "-": a - b, "x": a * b}[sign]
        return made if made > 0 else None

    found: set[int] = set()
    for a, b, c in permutations(map(Fraction, numbers)):
        for first, second in product("+-x/", repeat=2):
            made = apply(a, first, b)
            if made is not None:
                found |= {int(x) for x in (apply(made, second, c), apply(c, second, made)) if x is not None}
    return found


@unhurried
@given(st.lists(st.integers(1, 9), min_size=3, max_size=3))
def test_the_solver_finds_exactly_what_brute_force_finds(numbers: list[int]) -> None:
    ascending = tuple(sorted(numbers))
    assert {t for t in range(1, 800) if solve(ascending, t)} == reachable(ascending)


@unhurried
@given(st.lists(st.integers(1, 30), min_size=2, max_size=4), st.integers(1, 100))
def test_every_solution_of_the_solver_can_be_played_to_the_target(numbers: list[int], target: int) -> None:
    for steps in solve(tuple(sorted(numbers)), target):
        left = sorted(numbers)
        for a, sign, b in steps:
            left.remove(a)
            left.remove(b)
            made = result(a, sign, b)
            assert made is not None
            left.append(made)
        assert left == [target]


def test_the_classic_game_of_24_is_solved_and_the_impossible_one_is_not() -> None:
    assert solve((4, 6, 7, 8), 24)
    assert not solve((1, 1, 1, 1), 24)


@unhurried
@given(names, seeds)
def test_every_question_has_a_right_answer_that_its_own_choices_spell(name: str, seed: int) -> None:
    puzzle = TASKS[name].make(Random(seed))
    path = puzzle.solution()
    for at, label in enumerate(path):
        assert label in puzzle.choice(path[:at]).labels
        assert not puzzle.refuted(path[: at + 1])
    answer = puzzle.answer(path)
    assert answer is not None and puzzle.accepted(answer) and puzzle.correct(answer)
    assert read_path(puzzle, written(puzzle, path)) == path


@unhurried
@given(names, seeds, seeds)
def test_no_path_to_a_right_answer_is_ever_refuted(name: str, seed: int, walk: int) -> None:
    puzzle = TASKS[name].make(Random(seed))
    path = complete(puzzle, Random(walk))
    if puzzle.accepted(puzzle.answer(path)) and name != "arithmetic":
        assert not any(puzzle.refuted(path[:at]) for at in range(len(path) + 1))


@unhurried
@given(seeds, st.data())
def test_one_wrong_digit_is_refuted_where_it_stands(seed: int, data: st.DataObject) -> None:
    puzzle = chain(Random(seed))
    right = puzzle.solution()
    at = data.draw(st.integers(0, puzzle.depth - 1))
    wrong = data.draw(st.sampled_from([d for d in "0123456789" if d != right[at]]))
    assert puzzle.refuted((*right[:at], wrong))
    assert not puzzle.refuted(right[:at])


def test_a_line_starts_from_what_was_written_before_it() -> None:
    puzzle = ArithmeticChain(7, 8, (("+", 5),))
    assert puzzle.choice(("9", "9")).lead == "\n99 + 5 = "
    assert puzzle.answer(("9", "9", "6", "1")) == 61  # right by accident: that is what the answer says


@unhurried
@given(seeds, seeds)
def test_only_the_target_from_the_given_numbers_is_accepted(seed: int, walk: int) -> None:
    puzzle = countdown(Random(seed))
    path = complete(puzzle, Random(walk))
    a, sign, b, last = int(path[0]), path[1].strip(), int(path[2]), path[3].strip()
    rest = list(puzzle.numbers)
    rest.remove(a)
    rest.remove(b)
    made = result(a, sign, b)
    assert made is not None
    value = result(max(made, rest[0]), last, min(made, rest[0]))
    assert puzzle.answer(path) == value
    assert puzzle.accepted(puzzle.answer(path)) == (value == puzzle.target)


@pytest.mark.parametrize(
    "text",
    [
        " 8 + 3 = 11, 11 + 5",  # right
        " 8 + 3 = 12, 12 + 5",  # wrong sum
        " 8 + 8 = 16, 16 + 5",  # a number twice
        " 9 + 7 = 16",  # numbers that were not given
        "8 + 3 = 11, 11 + 5",  # not the form
        " 3 - 8 = 5, 8 + 5",  # negative
    ],
)
def test_a_written_answer_counts_only_where_every_step_is_legal(text: str) -> None:
    puzzle = Countdown((3, 5, 8), 16)
    path = read_path(puzzle, text)
    assert puzzle.accepted(puzzle.answer(path)) == (text == " 8 + 3 = 11, 11 + 5")


def test_moves_keep_a_larger_number_first_and_the_rest_in_order() -> None:
    assert ((6, "/", 3), (2, 5)) in set(moves((3, 5, 6)))
    assert all(a >= b for (a, _, b), _ in moves((1, 2, 9)))


@unhurried
@given(seeds)
def test_a_table_answers_as_plain_arithmetic_does(seed: int) -> None:
    chance = Random(seed)
    places = list(product(("BTC", "ETH"), ("Mon", "Tue"), range(3)))
    rows: list[dict[str, Any]] = [
        {"coin": coin, "day": day, "session": session, **{name: chance.randint(1, 50) for name in COLUMNS}}
        for coin, day, session in places
    ]
    table = PriceTable(rows)
    got = [r["close"] for r in rows if r["coin"] == "ETH" and r["day"] == "Tue"]
    want = {"max": max(got), "min": min(got), "sum": sum(got), "avg": Fraction(sum(got), 3)}
    for aggregate, value in want.items():
        assert table.value(Query(aggregate, "close", "ETH", "Tue")) == value
        assert value in table.values(aggregate, "close") and value in table.values(aggregate, "close", "ETH")
    assert table.value(Query("max", "close", "ADA", "Tue")) is None


def test_a_query_right_by_accident_does_not_count() -> None:
    for seed in range(200):
        puzzle = lookup(Random(seed))
        for column in ("open", "close", "volume", "spread", "trades"):
            other = Query(puzzle.truth.aggregate, column, puzzle.truth.coin, puzzle.truth.day)
            if other != puzzle.truth and puzzle.accepted(other) and not puzzle.correct(other):
                return
    pytest.fail("no accident in 200 questions: the test cannot tell")


def test_weeks_differ_and_repeat_with_their_seed() -> None:
    asked = Query("sum", "volume", "BTC", "Mon")
    first, again, other = week(Random(1)), week(Random(1)), week(Random(2))
    assert first.value(asked) == again.value(asked) != other.value(asked)


@unhurried
@given(names)
def test_questions_repeat_with_their_seed_and_examples_stay_apart(name: str) -> None:
    task = TASKS[name]
    assert [p.opening for p in task.questions(3, 4)] == [p.opening for p in task.questions(3, 4)]
    assert [p.opening for p in task.questions(3, 4)] != [p.opening for p in task.questions(4, 4)]
    assert task.prefix().count("\n\n") == task.examples


def test_guessing_is_right_as_often_as_it_should_be() -> None:
    assert chance_of_guessing(ArithmeticChain(3, 4, ()), draws=20_000) == pytest.approx(0.01, abs=0.003)


@unhurried
@given(seeds)
def test_the_checker_alone_finds_every_answer_given_the_nodes_and_none_without(seed: int) -> None:
    puzzle = chain(Random(seed))
    assert blind(puzzle, 10 * puzzle.depth, Random(seed))
    assert not blind(puzzle, puzzle.depth - 1, Random(seed))
    assert blind(countdown(Random(seed)), 500, Random(seed))
