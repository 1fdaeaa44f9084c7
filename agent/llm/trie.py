"""Which beginnings have been seen: how engines without a cache of their own count what a prompt adds.

Knows no text: its items are words or token ids.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence


class Trie(dict[Hashable, "Trie"]):
    """Items that follow each other."""

    def take(self, items: Iterable[Hashable], known: Sequence[Trie] = ()) -> int:
        """Add the items; how many of them neither this nor the `known` tries had in this place."""
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
        """This with all that `other` holds; both are used up."""
        for item, way in other.items():
            self[item] = self[item].joined(way) if item in self else way
        return self
