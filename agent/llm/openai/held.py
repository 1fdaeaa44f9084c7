"""Model of a server's prefix cache, inferred from the requests: the server cannot be asked.

Independent of server and text; its items are token ids, or stand-ins for tokens that are not known yet.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from agent.llm.trie import Trie


class ServerPrefixes:
    """Account of the cached prefixes. `branches`: the cache keeps every prefix it has seen. Otherwise it continues from
    the latest text alone, as a server with slots does."""

    def __init__(self, *, branches: bool) -> None:
        self._branches = branches
        self._primed, self._recent = Trie(), Trie()

    def foreseen(self, texts: Sequence[Sequence[Hashable]]) -> list[int]:
        """Tokens that each text adds to those before it. At least the last one of each is evaluated again."""
        return self._grown(texts)[0]

    def taken(self, texts: Sequence[Sequence[Hashable]]) -> list[int]:
        """As `foreseen`; the texts are held from now on."""
        counts, grown = self._grown(texts)
        self._recent = self._recent.joined(grown) if self._branches else grown
        return counts

    def prime(self, text: Sequence[Hashable]) -> int:
        """Hold a text until `lost`; returns the number of its tokens that were not held. All others are forgotten."""
        self._recent = Trie()
        return self._primed.take(text)

    def forget(self) -> None:
        """Keep the primed texts alone."""
        self._recent = Trie()

    def lost(self) -> None:
        """Drop all texts."""
        self._primed, self._recent = Trie(), Trie()

    def _grown(self, texts: Sequence[Sequence[Hashable]]) -> tuple[list[int], Trie]:
        held, grown, counts = self._recent, Trie(), list[int]()
        for text in texts:
            if not self._branches and counts:
                held, grown = grown, Trie()
            # A server evaluates at least one token of every request: without it there are no logits.
            counts.append(max(1, grown.take(text, (self._primed, held))))
        return counts, grown
