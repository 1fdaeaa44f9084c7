"""Client of a model hub: a repository's files at one commit, with the hashes that the hub stores.

Large files (Git LFS) are listed with their SHA-256; small ones with Git's own hash of their content.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from agent.install.download import WIRE, DownloadPolicy
from agent.install.lock import inside
from market.errors import DataInvalid

LISTING_LIMIT = 16_000_000
SMALL_LIMIT = 64_000_000
_PAGES = 100
_NEXT = re.compile(r'<([^>]+)>\s*;\s*rel="?next"?')


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a repository: `sha256` where the hub lists it, else `blob`, Git's SHA-1."""

    path: str
    size: int
    sha256: str
    blob: str

    def fits(self, content: bytes) -> bool:
        """True if Git's hash of this content equals the listed one."""
        return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == self.blob


@dataclass(frozen=True, slots=True)
class Hub:
    """Client of the hub at `base`. Every method raises NotReady without an answer and DataInvalid for an invalid
    one."""

    base: str
    wire: DownloadPolicy = WIRE

    def commit(self, repository: str, revision: str) -> str:
        """The commit that a branch or tag points to now."""
        said = self._json(self.commit_url(repository, revision))[0]
        commit = said.get("sha") if isinstance(said, dict) else None
        if not isinstance(commit, str) or not re.fullmatch(r"[0-9a-f]{40}", commit):
            raise DataInvalid(f"The hub names no commit for {repository} {revision}.")
        return commit

    def files(self, repository: str, commit: str) -> tuple[HubFile, ...]:
        """Files of a repository at a commit, except hidden ones, over all pages."""
        url, found = self.tree_url(repository, commit), list[HubFile]()
        for _ in range(_PAGES):
            said, following = self._json(url)
            try:
                found += [one for one in _listed(said) if not one.path.rpartition("/")[2].startswith(".")]
            except (KeyError, TypeError, ValueError) as error:
                raise DataInvalid(f"The hub's listing of {repository} cannot be read.") from error
            if not following:
                return tuple(found)
            # The next page's address is the server's own text: it must not lead to another host.
            if urlsplit(following)[:2] != urlsplit(self.base)[:2]:
                raise DataInvalid(f"The hub's listing of {repository} goes on at another address.")
            url = following
        raise DataInvalid(f"The hub's listing of {repository} has no end.")

    def small(self, repository: str, commit: str, file: HubFile) -> bytes:
        """The content of a file listed by Git's hash, checked."""
        if file.size > SMALL_LIMIT:
            raise DataInvalid(f"{file.path} of {repository} is too large to be listed without its SHA-256.")
        content, _ = self.wire.read(self.file_url(repository, commit, file.path), file.size)
        if not file.fits(content):
            raise DataInvalid(f"{file.path} of {repository} is not the file expected: its hash differs.")
        return content

    def commit_url(self, repository: str, revision: str) -> str:
        return f"{self.base}/api/models/{repository}/revision/{quote(revision, safe='')}"

    def tree_url(self, repository: str, commit: str) -> str:
        return f"{self.base}/api/models/{repository}/tree/{commit}?recursive=true"

    def file_url(self, repository: str, commit: str, path: str) -> str:
        return f"{self.base}/{repository}/resolve/{commit}/{quote(path)}"

    def _json(self, url: str) -> tuple[Any, str]:
        """A JSON response, and the address of the next page or an empty string."""
        body, headers = self.wire.read(url, LISTING_LIMIT)
        link = _NEXT.search(headers.get("Link", ""))
        try:
            return json.loads(body), urljoin(url, link[1]) if link else ""
        except ValueError as error:
            raise DataInvalid(f"{url} does not answer in JSON.") from error


def _listed(said: Any) -> Iterator[HubFile]:
    for item in said:
        if item["type"] != "file":
            continue
        path, large = str(item["path"]), item.get("lfs")
        size = int(item["size"])
        if not inside(path) or size < 0:
            raise ValueError(f"{path!r} of {size} bytes is no file")
        yield HubFile(path=path, size=size, sha256=str(large["oid"]) if large else "", blob=str(item["oid"]))
