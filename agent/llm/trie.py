"""Trie of prefixes: engines without a cache of their own count the tokens that a prompt adds.

Independent of text: its items are words or token ids.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence


class Trie(dict[Hashable, "Trie"]):
    """A trie of items."""

    def take(self, items: Iterable[Hashable], known: Sequence[Trie] = ()) -> int:
        """Add the items; returns the number that neither this nor the `known` tries had in this position."""
        here, new, elsewhere = self, 0, list(known)
        for item in items:
            if elsewhere:
                elsewhere = [way[item] for way in elsewhere if item in way]
            there = here.get(item)
            if there is None:
                there = here[item] = Trie()
                new += not elsewhere
            here = there
        return new

    def joined(self, other: Trie) -> Trie:
        """This trie merged with `other`; both are consumed."""
        for item, way in other.items():
            self[item] = self[item].joined(way) if item in self else way
        return self
