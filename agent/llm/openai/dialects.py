"""Dialects of the servers that speak this protocol: fields beyond the standard in requests, and differences in answers.

Data and pure functions; sends nothing. Sources: the servers' own code and answers (docs/engines.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

BIAS = 100.0
"""Added equally to the logits of all labels: no other token is ever sampled, and their ratios stay."""


def _printed(text: str) -> str:
    """A token's text as MLC prints it in its answers: blanks and non-ASCII characters are dropped."""
    return "".join(character for character in text if 33 <= ord(character) <= 126)


def _plain(text: str) -> str:
    return text


@dataclass(frozen=True, slots=True)
class Dialect:
    """A server's dialect of the protocol.

    `alive` answers 200 only while the engine works. `by_id`: answers name tokens by id; otherwise by `shown` text, and
    are accepted only where they name the labels and nothing else. `biased`: probabilities are taken after logit_bias,
    so all of the mass must lie on the labels. `labels` is the most that can be read from one answer. `sampling` goes
    with every request and switches off what the server would cut from the distribution, `extra` with questions.
    `tokenize` makes the request that counts a text, with or without what the model expects before it. `branches`: the
    cache keeps every prefix it has seen, not the latest text of each slot alone.
    """

    name: str
    alive: str
    labels: int
    by_id: bool
    biased: bool
    shown: Callable[[str], str] = _plain
    tokenize: Callable[[str, bool], dict[str, Any]] | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    ask_ids: bool = False
    branches: bool = True

    def question(self, labels: Sequence[int]) -> dict[str, Any]:
        """Fields that make the one sampled token a choice among `labels`, with its probabilities."""
        asked: dict[str, Any] = {
            "max_tokens": 1,
            # Some servers report probabilities after temperature and top_p: any other value would distort them.
            "temperature": 1.0,
            "top_p": 1.0,
            "logprobs": len(labels),
            "logit_bias": {str(token): BIAS for token in labels},
            **self.extra,
        }
        return asked | ({"logprob_token_ids": list(labels)} if self.ask_ids else {})


def _llama_tokenize(text: str, opening: bool) -> dict[str, Any]:
    return {"content": text, "add_special": opening, "parse_special": True}


def _vllm_tokenize(text: str, opening: bool) -> dict[str, Any]:
    return {"prompt": text, "add_special_tokens": opening}


MLC = Dialect("mlc", "/metrics", labels=5, by_id=False, biased=True, shown=_printed)
LLAMA = Dialect(
    "llama-server",
    "/health",
    labels=20,
    by_id=True,
    biased=True,
    tokenize=_llama_tokenize,
    sampling={"top_k": 0, "min_p": 0.0, "cache_prompt": True},
    extra={"post_sampling_probs": True},
    branches=False,
)
VLLM = Dialect(
    "vllm",
    "/health",
    labels=20,
    by_id=True,
    biased=False,
    tokenize=_vllm_tokenize,
    sampling={"top_k": 0, "min_p": 0.0},
    extra={"return_tokens_as_token_ids": True},
    ask_ids=True,
)
PLAIN = Dialect("openai", "/v1/models", labels=5, by_id=False, biased=True)
"""Unknown servers: only what the protocol itself specifies is used."""

_OWNERS = {"MLC-LLM": MLC, "llamacpp": LLAMA, "vllm": VLLM}


def named(owner: str) -> Dialect:
    """Dialect by the owner in a server's model list."""
    return _OWNERS.get(owner, PLAIN)
