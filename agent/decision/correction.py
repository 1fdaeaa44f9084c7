"""One correction, only on a coded finding: the faulty claim goes back to the model with a statement of its fault.

Never "are you sure?". The replacement is chosen from the labels that do not repeat the fault, checked like any claim,
and accepted only when its finding is gone and its value is higher; otherwise the claim is dropped from the path.
Findings: E1 false now, E2 thin, E3 against history, E4 contradicts itself, E5 stale, E6 look-ahead; E2, E5 and E6 are
faults of the history, which no other choice of labels would mend.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from agent.decision import prompts
from agent.decision.claim_search import ClaimNode, Proposals, top
from agent.llm.engine import Prompt, Question
from agent.search.tree import OutOfBudget
from storage.records import Phase
from strategies.claims import Claim, Effect
from strategies.features import BUCKETS
from strategies.verification import MENDABLE, Checked, Finding


@dataclass(frozen=True, slots=True)
class Correction:
    """The result of a correction. `replacement` is None where the claim was dropped; `index` is its position on the
    path."""

    index: int
    finding: Finding
    faulty: Checked
    replacement: Checked | None


def first_finding(proposals: Proposals, path: Sequence[ClaimNode]) -> tuple[int, Finding] | None:
    """Position and finding of the first claim whose fault another choice of labels could mend: false now, against
    history, or denied by the model itself where history is silent."""
    found = ((i, f) for i, n in enumerate(path) if (f := proposals.finding(n)) in MENDABLE and f is not None)
    return next(found, None)


async def correct(proposals: Proposals, path: Sequence[ClaimNode]) -> Correction | None:
    """The one round of correction of a path. None if there is nothing to correct or no budget for it: then the faulty
    claim stays and counts against the decision, since otherwise an exhausted budget could open a trade."""
    first = first_finding(proposals, path)
    if first is None:
        return None
    index, finding = first
    node = path[index]
    if node.checked is None:
        return None
    faulty = replace(node.checked, finding=finding)
    try:
        replacement = await _replace(proposals, node, faulty)
    except OutOfBudget:
        return None
    better = replacement.finding is None and proposals.value(replace(node, checked=replacement)) > proposals.value(node)
    return Correction(index, finding, faulty, replacement if better else None)


async def _replace(proposals: Proposals, node: ClaimNode, faulty: Checked) -> Checked:
    claim = faulty.claim
    at = prompts.finding(node.prompt, faulty, proposals.past.buckets.get(claim.feature, "unknown"))
    at = at.then(claim.rung, f" {claim.feature}")
    bucket, effects = claim.bucket, tuple(prompts.EFFECTS)
    # Only the label at fault is asked again, so that the correction cannot become another claim.
    if faulty.finding is Finding.FALSE_NOW:
        bucket = await _choose(proposals, at, [b for b in BUCKETS[claim.feature] if b != claim.bucket])
    else:
        effects = tuple(e for e in effects if e != claim.effect)
    effect = await _choose(proposals, at.then(f" {bucket}"), effects)
    return proposals.past.check(Claim(rung=claim.rung, feature=claim.feature, bucket=bucket, effect=Effect(effect)))


async def _choose(proposals: Proposals, at: Prompt, options: Sequence[str]) -> str:
    rows = await proposals.asker.ask(Phase.CORRECT, [Question(at, prompts.words(options))])
    return options[top(rows[0], 1)[0]]


def corrected(path: Sequence[Checked], correction: Correction | None) -> tuple[Checked, ...]:
    """The path with the faulty claim replaced or dropped."""
    if correction is None:
        return tuple(path)
    middle = () if correction.replacement is None else (correction.replacement,)
    return (*path[: correction.index], *middle, *path[correction.index + 1 :])
