"""The parts of the client for model servers: addresses, answers, tokens, the breaker; each by itself."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from agent.llm.openai.address import OwnNetwork, address, confirm, own
from agent.llm.openai.breaker import Breaker
from agent.llm.openai.dialects import LLAMA, MLC, PLAIN, VLLM, Dialect, named
from agent.llm.openai.held import ServerPrefixes
from agent.llm.openai.reading import Label, completion, label_row, reported
from agent.llm.openai.tokens import LocalTokens
from agent.llm.openai.wire import strict_json
from agent.llm.trie import Trie
from market.errors import EngineUnavailable, Misconfigured, NotReady
from tests.tiny_model import tokenizer, write_model

UP, DOWN = Label(7, " up"), Label(9, " down")
DIALECTS = (MLC, LLAMA, VLLM, PLAIN)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "10.1.2.3", "172.31.0.1", "192.168.1.5", "::1", "fd00::7"])
def test_addresses_of_this_network_are_allowed(host: str) -> None:
    assert own(host)
    shown = f"[{host}]" if ":" in host else host
    assert address(f"http://{shown}:8000/v1/").base == f"http://{shown}:8000"


@pytest.mark.parametrize(
    "host", ["8.8.8.8", "172.32.0.1", "169.254.169.254", "100.64.0.1", "2001:db8::1", "::ffff:8.8.8.8"]
)
def test_addresses_elsewhere_are_refused_unless_allowed(host: str) -> None:
    assert not own(host)
    shown = f"[{host}]" if ":" in host else host
    with pytest.raises(Misconfigured, match="not an address of this network") as refused:
        address(f"http://{shown}:8000")
    assert "allow_remote" in refused.value.next_step
    with pytest.raises(Misconfigured, match="https"):
        address(f"http://{shown}:8000", allow_remote=True)
    assert address(f"https://{shown}", allow_remote=True).port == 443


def test_a_mapped_private_address_is_what_it_maps_to() -> None:
    assert own("::ffff:192.168.0.9") and own("fd00::1%eth0")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8000",
        "ftp://localhost",
        "http://",
        "http://h:99999",
        "http://h/api",
        "http://u:p@h",
        "http://h?x=1",
    ],
)
def test_what_is_no_address_is_refused_in_a_sentence(url: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        address(url)
    assert refused.value.sentence().endswith(".")


def test_a_name_is_refused_when_any_of_its_addresses_is_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    async def getaddrinfo(self: object, host: str, port: int, **_: object) -> list[Any]:
        return [(2, 1, 6, "", (ip, port)) for ip in ("192.168.0.2", "8.8.8.8")]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
    with pytest.raises(Misconfigured, match=r"8\.8\.8\.8"):
        asyncio.run(confirm(address("http://box.lan:8000")))
    with pytest.raises(EngineUnavailable, match=r"8\.8\.8\.8"):
        asyncio.run(OwnNetwork(False).resolve("box.lan", 8000))
    assert len(asyncio.run(OwnNetwork(True).resolve("box.lan", 8000))) == 2


def test_this_machine_resolves_to_itself() -> None:
    asyncio.run(confirm(address("http://localhost:8000")))
    with pytest.raises(EngineUnavailable, match="cannot be resolved"):
        asyncio.run(confirm(address("http://no-such-host.invalid:8000")))


def test_real_bodies_of_each_server_are_read_alike() -> None:
    mlc = {"top_logprobs": [{"up": -0.279, "down": -1.414}], "tokens": ["up"], "text_offset": None}
    entries = [{"id": 9, "token": " down", "prob": 0.2432}, {"id": 7, "token": " up", "prob": 0.7568}]
    llama = {"content": [{"id": 7, "token": " up", "prob": 0.7568, "top_probs": entries}]}
    vllm = {"top_logprobs": [{"token_id:7": -1.511, "token_id:9": -2.646, "token_id:4": -0.5}]}
    for dialect, logprobs in ((MLC, mlc), (LLAMA, llama), (VLLM, vllm)):
        up, down = label_row(dialect, logprobs, [UP, DOWN])
        assert up == pytest.approx(0.757, abs=0.001) and up + down == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    ("dialect", "logprobs"),
    [
        (MLC, {"top_logprobs": [{"up": -0.279, "down": -1.414, "sideways": -9.0}]}),
        (MLC, {"top_logprobs": [{"up": -0.7}]}),
        (MLC, {"top_logprobs": [{"up": -0.1, "down": -0.1}]}),
        (MLC, {"top_logprobs": [{"up": -5.0, "down": -6.0}]}),
        (MLC, {"top_logprobs": [{"up": True, "down": -0.7}]}),
        (MLC, {"top_logprobs": [{"up": -(10**400), "down": 0.0}]}),
        (MLC, {"top_logprobs": [{"up": "-0.7", "down": -0.7}]}),
        (PLAIN, {"top_logprobs": [{"up": -0.279, "down": -1.414}]}),
        (VLLM, {"top_logprobs": [{" up": -0.279, " down": -1.414}]}),
        (VLLM, {"top_logprobs": [{"token_id:7": -0.1, "token_id:x": -3.0}]}),
        (LLAMA, {"content": [{"top_logprobs": [{"token": " up", "logprob": -0.1}]}]}),
        (LLAMA, {"content": [{"top_probs": [{"id": 7, "prob": 1.4}, {"id": 9, "prob": 0.1}]}]}),
        (LLAMA, {"content": []}),
        (LLAMA, None),
    ],
)
def test_probabilities_that_cannot_be_right_are_refused(dialect: Dialect, logprobs: Any) -> None:
    with pytest.raises(EngineUnavailable):
        label_row(dialect, logprobs, [UP, DOWN])


_NAMES = (
    *("choices", "text", "finish_reason", "logprobs", "top_logprobs", "content", "id", "prob", "logprob", "top_probs"),
    *("up", "down", " up", " down", "token_id:7", "token_id:9", "usage", "extra", "timings"),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["up", " up", "token_id:7", "stop"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(_NAMES),
            inner,
            max_size=4,
        )
    ),
    max_leaves=25,
)


@given(body=JSON, dialect=st.sampled_from(DIALECTS))
def test_no_body_whatever_is_read_as_anything_but_probabilities_or_a_refusal(body: Any, dialect: Dialect) -> None:
    try:
        row = label_row(dialect, body, [UP, DOWN])
    except EngineUnavailable:
        pass
    else:
        assert len(row) == 2 and math.isclose(sum(row), 1, abs_tol=1e-9) and min(row) > 0
    if isinstance(body, dict):
        told = reported(body)
        assert all(count is None or count >= 0 for count in (told.prompt, told.prefilled, told.generated))
        with suppress(EngineUnavailable):
            assert completion(body).ended in ("stop", "length")


@given(up=st.floats(-30, 30), down=st.floats(-30, 30))
def test_a_row_is_the_softmax_of_the_labels_whatever_the_server_normalises_over(up: float, down: float) -> None:
    whole = math.log(math.exp(up) + math.exp(down) + math.exp(3.0))
    raw = {"top_logprobs": [{"token_id:7": up - whole, "token_id:9": down - whole}]}
    assert label_row(VLLM, raw, [UP, DOWN])[0] == pytest.approx(1 / (1 + math.exp(down - up)), rel=1e-9)


def test_unknown_servers_are_trusted_least() -> None:
    assert named("somebody") is PLAIN and PLAIN.tokenize is None
    assert {named(owner).name for owner in ("MLC-LLM", "llamacpp", "vllm")} == {"mlc", "llama-server", "vllm"}


@pytest.mark.parametrize("text", ["NaN", '{"a": Infinity}', "[" * 100_000, "{", b"\xff"])
def test_json_that_python_would_let_pass_or_choke_on_is_refused(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"number|deep|Expecting|decode"):
        strict_json(text)


def test_the_breaker_opens_lets_one_through_and_closes() -> None:
    breaker = Breaker(threshold=2, cooldown=10)
    breaker.failed(0.0, "no")
    assert breaker.blocked(0.0) == ""
    breaker.failed(1.0, "no again")
    assert breaker.blocked(1.0) == breaker.blocked(10.9) == "no again"
    assert breaker.blocked(11.0) == "" and breaker.blocked(11.1) == "no again", "one try, not a crowd"
    breaker.failed(11.2, "still no")
    assert breaker.blocked(21.1) == "still no"
    breaker.succeeded()
    assert breaker.blocked(21.2) == "" and breaker.reason == ""


@given(st.lists(st.lists(st.integers(0, 3), max_size=6), max_size=8))
def test_a_trie_counts_what_no_earlier_text_began_with(texts: list[list[int]]) -> None:
    trie, seen = Trie(), set[tuple[int, ...]]()
    for text in texts:
        beginnings = {tuple(text[: end + 1]) for end in range(len(text))}
        assert trie.take(text) == len(beginnings - seen)
        seen |= beginnings


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=5), max_size=6), st.booleans())
def test_what_is_foreseen_is_what_is_then_taken_and_foreseeing_changes_nothing(
    texts: list[list[int]], branches: bool
) -> None:
    held = ServerPrefixes(branches=branches)
    assert held.prime([0, 1]) == 2 and held.prime([0, 1]) == 0
    for text in texts:
        assert held.foreseen([text]) == held.foreseen([text])
        (needed,) = held.foreseen([text])
        assert held.taken([text]) == [needed] and 1 <= needed <= len(text)
        assert held.foreseen([text]) == [1]
    together = ServerPrefixes(branches=branches)
    together.prime([0, 1])
    one_by_one = ServerPrefixes(branches=branches)
    one_by_one.prime([0, 1])
    assert together.foreseen(texts) == together.taken(texts) == [one_by_one.taken([text])[0] for text in texts]
    held.forget()
    assert held.foreseen([[0, 1, 9]]) == [1]
    held.lost()
    assert held.foreseen([[0, 1, 9]]) == [3]


def test_a_cache_of_slots_goes_on_from_the_latest_text_alone() -> None:
    first, second = [1, 2, 3, 4], [1, 2, 5, 6]
    branching, slots = ServerPrefixes(branches=True), ServerPrefixes(branches=False)
    assert branching.taken([first, second, first]) == [4, 2, 1]
    assert slots.taken([first, second, first]) == [4, 2, 2]


def test_segments_join_and_control_tokens_are_one_token() -> None:
    tokens = LocalTokens(tokenizer(), "hash")
    assert tokens.opening == ()
    parts = ("<|im_start|>system\n", "now: bias above,", " drift up")
    assert tokens.known("".join(parts)) == tuple(i for part in parts for i in tokens.known(part) or ())
    (first, *_) = tokens.known("<|im_start|>") or ()
    assert tokens.text_of(first) == "<|im_start|>"


def test_what_a_model_expects_before_every_text_is_learnt_from_its_tokenizer(tmp_path: Path) -> None:
    loaded = Tokenizer.from_file(str(write_model(tmp_path / "m") / "tokenizer.json"))
    loaded.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    assert LocalTokens(loaded, "").opening == (0,)


def test_a_tokenizer_that_changes_the_beginning_of_a_segment_is_refused() -> None:
    words = Tokenizer(models.WordLevel({"?": 0, "\u2581up": 1}, unk_token="?"))
    words.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    words.pre_tokenizer = pre_tokenizers.Metaspace()
    with pytest.raises(NotReady, match="beginning of each segment"):
        LocalTokens(words, "")
