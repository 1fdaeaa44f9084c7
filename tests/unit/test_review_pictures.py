"""Pictures of a decision: what they show is what the numbers say."""

from __future__ import annotations

import re
from dataclasses import asdict
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.review.pictures import chances, evidence
from storage.decisions import RecordedEvidence
from strategies.belief import believe, lean, parts
from strategies.claims import Claim, Effect
from strategies.logit import logit, sigmoid
from strategies.verification import NOTHING, AnalogArrays, Checked, Verdict, check, weigh
from tests.fakes import START


@given(st.integers(1, 3000), st.floats(0.001, 0.999))
def test_chances_are_those_of_so_many_coins(k: int, base: float) -> None:
    found = chances(k, base)
    assert sum(found.values()) == pytest.approx(1, abs=1e-6)
    assert sum(wins * p for wins, p in found.items()) == pytest.approx(k * base, rel=1e-4)


@given(st.integers(1, 3000), st.floats(0.01, 0.99), st.floats(0, 1))
def test_the_picture_of_any_evidence_stays_in_its_frame(k: int, mid: float, share: float) -> None:
    wins = round(k * share)
    found = weigh(AnalogArrays.of([(mid, 1.0)] * wins + [(mid, 0.0)] * (k - wins)), trials=30)
    drawn = evidence(RecordedEvidence(**asdict(found)))
    across = [float(x) for x in re.findall(r'(?:M|H|cx=")(-?[\d.]+)', drawn)]
    assert min(across) >= -10 and max(across) <= 210
    assert f"in {k} windows against a base rate" in drawn and 'class="paid"' in drawn


def test_no_windows_make_no_picture() -> None:
    assert evidence(RecordedEvidence(**asdict(NOTHING))) == ""


def checked(feature: str, bucket: str, wins: int, of: int = 200) -> Checked:
    found = weigh(AnalogArrays.of([(0.5, 1.0)] * wins + [(0.5, 0.0)] * (of - wins)))
    return check(Claim("trend", feature, bucket, Effect.UP if wins * 2 > of else Effect.DOWN), found, true=True)


def test_what_each_claim_brings_adds_up_to_the_belief() -> None:
    path = [checked("trend", "trending", 150), checked("level", "even", 128, 210), checked("range", "top", 40)]
    assert {c.verdict for c in path} == {Verdict.SUPPORTED}
    shares = [share for _, share in parts(path)]
    assert sum(shares) == pytest.approx(lean(path)[0])
    held = believe(
        path, market_id="m", as_of=START, expires_at=START + timedelta(seconds=60), shrink=0.3, max_shift=9.0
    )
    assert held.raw(0.4) == pytest.approx(sigmoid(logit(0.4) + 0.3 * sum(shares)))
