"""A model small enough to make on the spot: a real byte-level tokenizer, and logits drawn from a hash of the context.

It is deterministic and untrained; another `salt` is another model. With a rule, the rule's weights are its logits for
the labels.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from agent.decision import prompts
from agent.llm.scripted import Rule
from strategies.claims import DECISIONS, LADDER
from strategies.features import BUCKETS
from tests.engines import STATIC, questions

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
END = 0
_BLANK = "\u0120"  # how a byte-level vocabulary writes a leading blank
Logits = NDArray[np.float64]


def _words() -> list[str]:
    """All words of the agent's and the tests' prompts, with and without a blank before them."""
    texts = [prompts.static().text, STATIC.text, questions(1)[0].prompt.text, "Is sky blue? Answer yes or no. nothing"]
    names = [*DECISIONS, *prompts.EFFECTS, *BUCKETS, *(b for options in BUCKETS.values() for b in options)]
    names += [rung.name for rung in LADDER] + ["the", "claim", "holds", "while", "book", "and", "tape", "agree", "on"]
    spoken = " ".join([*texts, *names]).replace("<|", " <|")
    return sorted({"".join(c for c in word if c.isalpha()) for word in spoken.split() if "<|" not in word} - {""})


@lru_cache(maxsize=1)
def tokenizer() -> Tokenizer:
    """Tokenizer whose words are grown letter by letter, so that a text's tokens are its longest known beginnings."""
    vocab = {name: at for at, name in enumerate(SPECIAL)}
    for byte in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocab.setdefault(byte, len(vocab))
    merges: list[tuple[str, str]] = []
    for word in _words():
        for piece in (_BLANK + word, word):
            for end in range(1, len(piece)):
                if piece[: end + 1] not in vocab:
                    vocab[piece[: end + 1]] = len(vocab)
                    merges.append((piece[:end], piece[end]))
    made = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL])
    return made


def write_model(folder: Path) -> Path:
    """Write a model folder in MLC's layout, without large files."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "mlc-chat-config.json").write_text(json.dumps({"model_type": "tiny", "context_window_size": 2048}))
    (folder / "ndarray-cache.json").write_text(json.dumps({"records": []}))
    (folder / "tiny.so").write_bytes(b"\x7fELF")
    return folder


class TinyModel:
    """Next-token distributions and texts."""

    def __init__(self, rule: Rule | None = None, salt: str = "") -> None:
        self._rule, self._salt = rule, salt
        self.tokenizer = tokenizer()
        size = self.tokenizer.get_vocab_size()
        self.texts = [self.tokenizer.decode([token], skip_special_tokens=False) for token in range(size)]
        whole = {f" {word}" for word in _words() if len(word) > 1}
        # Fragments are all but excluded, so that generated texts consist of words.
        self._liking = np.array([0.0 if text in whole else -14.0 for text in self.texts])
        self._liking[END] = -1.0

    def encode(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def logits(self, ids: Sequence[int], bias: Mapping[int, float]) -> Logits:
        """Logits of the token after `ids`, bias included."""
        chance = np.random.default_rng(
            int.from_bytes(hashlib.sha256(f"{self._salt}{list(ids)}".encode()).digest()[:8], "big")
        )
        row: Logits = chance.normal(0.0, 1.5, len(self.texts)) + self._liking
        if bias and self._rule is not None:
            labels = sorted(bias)
            weights = self._rule(
                self.tokenizer.decode(list(ids), skip_special_tokens=False), tuple(self.texts[t] for t in labels)
            )
            row[labels] = [math.log(weight) for weight in weights]
        for token, added in bias.items():
            row[token] += added
        return row

    def sampled(self, row: Logits, temperature: float, chance: np.random.Generator) -> tuple[int, Logits]:
        """Sample a token; return it with the log-probabilities it was drawn by."""
        if temperature == 0:
            best = int(row.argmax())
            logprobs = np.full(len(row), -23.0259)
            logprobs[best] = 0.0
            return best, logprobs
        scaled = row / temperature
        logprobs = scaled - scaled.max()
        logprobs -= math.log(float(np.exp(logprobs).sum()))
        return int(chance.choice(len(row), p=np.exp(logprobs) / np.exp(logprobs).sum())), logprobs
