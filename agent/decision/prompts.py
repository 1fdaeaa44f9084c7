"""Prompts as functions of values: the static part first, the market's numbers last, one short line per claim.

Nothing from outside (a market's question, a slug) is ever put into a prompt: only our own bucket names are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agent.llm.prompt import Prompt
from strategies.claims import LADDER, Claim, Effect
from strategies.verification import Checked, Finding

_SYSTEM = """<|im_start|>system
You sort evidence about a prediction market. Each line is one claim: rung, feature, its bucket now, and its effect on \
the price of Up: up, down or none.<|im_end|>
<|im_start|>user
now: bias above, drift up, imbalance buyers, level even, momentum rising, spread tight, trend trending<|im_end|>
<|im_start|>assistant
regime trend trending up
state drift up none
flow momentum rising up
market spread tight none
decision up<|im_end|>
<|im_start|>user
now: activity quiet, bias below, drift down, imbalance sellers, level low, spread wide, volatility wild<|im_end|>
<|im_start|>assistant
regime volatility wild none
state level low down
flow imbalance sellers down
market bias below down
decision down<|im_end|>
<|im_start|>user
now: activity busy, drift flat, imbalance balanced, level even, momentum steady, spread tight, trend noisy<|im_end|>
<|im_start|>assistant
regime trend noisy none
state level even none
flow imbalance balanced none
market spread tight none
decision abstain<|im_end|>
<|im_start|>user
"""


def static() -> Prompt:
    """The constant beginning of every decision's prompt; evaluated once."""
    return Prompt((_SYSTEM,))


def opening(buckets: Mapping[str, str]) -> Prompt:
    """The static part and the present state of the market."""
    state = ", ".join(f"{feature} {bucket}" for feature, bucket in sorted(buckets.items()))
    return static().then(f"now: {state}<|im_end|>\n<|im_start|>assistant\n")


def rung(prompt: Prompt, level: int) -> Prompt:
    """Open the line of one level of the ladder."""
    name = LADDER[level].name
    return prompt.then(name) if level == 0 else prompt.then("\n", name)


def words(options: Sequence[str]) -> tuple[str, ...]:
    """Options as they appear within a line: each with its leading space."""
    return tuple(f" {o}" for o in options)


def line(claim: Claim) -> tuple[str, ...]:
    """The segments that write a claim after its rung."""
    if claim.decides:
        return (f" {claim.bucket}",)
    return (f" {claim.feature}", f" {claim.bucket}", f" {claim.effect}")


_OPPOSITE = {Effect.UP: Effect.DOWN, Effect.DOWN: Effect.UP}


def opposed(prompt: Prompt, claim: Claim) -> Prompt | None:
    """The prompt with the opposite effect; None for a claim without one. `prompt` ends with the claim."""
    if claim.decides or claim.effect not in _OPPOSITE:
        return None
    return Prompt((*prompt.segments[:-1], f" {_OPPOSITE[claim.effect]}"))


def verdict(prompt: Prompt) -> Prompt:
    """The prompt that asks whether the last claim holds: one token more."""
    return prompt.then("?")


VERDICTS = (" yes", " no")


def finding(prompt: Prompt, checked: Checked, now: str) -> Prompt:
    """The prompt that states a concrete fault of the last claim and asks for its replacement."""
    claim, evidence = checked.claim, checked.evidence
    said = {
        Finding.FALSE_NOW: f"{claim.feature} is {now} now",
        Finding.INCONSISTENT: "up and down cannot both hold",
    }.get(checked.finding or Finding.WRONG_SIGN)
    history = "up" if evidence.posterior > evidence.base_rate else "down"
    return prompt.then(f"\nwrong: {said or f'history says {history}'}. replace:\n")


def summary(prompt: Prompt) -> Prompt:
    """The prompt for the one sentence written for people, after the winning path."""
    return prompt.then("\nIn short, the claims say that")


EFFECTS: tuple[str, ...] = tuple(e.value for e in Effect)
