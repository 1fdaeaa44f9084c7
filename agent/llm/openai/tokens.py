"""Tokenizers: text to token ids, segment by segment, by the model's own tokenizer.json or by its server.

Prompts are sent as ids, so that the count here is what the server evaluates, no text is ever taken for a control
token, and no server adds an opening of its own.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from agent.llm.openai.dialects import Dialect
from agent.llm.openai.wire import ServerWire
from market.errors import EngineUnavailable, NotReady

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Ids = tuple[int, ...]
_REMEMBERED = 4096
_JOINED = ("The price went", " up", " and", " down", " again\n")


class Tokens(Protocol):
    """A tokenizer. `opening` is what the model expects before every text; `sha256` identifies it, empty where
    unknown."""

    opening: Ids
    sha256: str

    def known(self, text: str) -> Ids | None:
        """The ids of a segment; None where the server has to be asked for them."""
        ...

    async def of(self, text: str, deadline: float | None = None) -> Ids: ...

    def text_of(self, token: int) -> str | None:
        """One token's text; None where unknown."""
        ...


class LocalTokens:
    """Tokenizer from a tokenizer.json on this machine."""

    def __init__(self, tokenizer: Tokenizer, sha256: str) -> None:
        self._tokenizer = tokenizer
        self.sha256 = sha256
        self._segments: dict[str, Ids] = {}
        self.opening = _before(self._encode("up", False), self._encode("up", True))
        _must_join(self._encode("".join(_JOINED), False), [self._encode(part, False) for part in _JOINED])

    def known(self, text: str) -> Ids | None:
        if text not in self._segments:
            if len(self._segments) >= _REMEMBERED:
                self._segments = {}
            self._segments[text] = self._encode(text, False)
        return self._segments[text]

    async def of(self, text: str, deadline: float | None = None) -> Ids:
        return self.known(text) or ()

    def text_of(self, token: int) -> str | None:
        return str(self._tokenizer.decode([token], skip_special_tokens=False))

    def _encode(self, text: str, opening: bool) -> Ids:
        return tuple(self._tokenizer.encode(text, add_special_tokens=opening).ids)


class ServerTokens:
    """Tokenizer over the server's own `/tokenize`, each segment asked for once."""

    def __init__(self, wire: ServerWire, dialect: Dialect, model: str) -> None:
        self._wire, self._dialect, self._model = wire, dialect, model
        self._segments: dict[str, Ids] = {}
        self.opening: Ids = ()
        self.sha256 = ""

    async def learn(self) -> None:
        """Learn the server's opening, and check that segments join to the tokens of the whole text. Raises NotReady."""
        self.opening = _before(await self._ask("up", False), await self._ask("up", True))
        _must_join(await self._ask("".join(_JOINED), False), [await self._ask(part, False) for part in _JOINED])

    def known(self, text: str) -> Ids | None:
        return self._segments.get(text)

    async def of(self, text: str, deadline: float | None = None) -> Ids:
        if (ids := self._segments.get(text)) is None:
            if len(self._segments) >= _REMEMBERED:
                self._segments = {}
            ids = self._segments[text] = await self._ask(text, False, deadline)
        return ids

    def text_of(self, token: int) -> str | None:
        return None

    async def _ask(self, text: str, opening: bool, deadline: float | None = None) -> Ids:
        if self._dialect.tokenize is None:
            raise EngineUnavailable("The model server does not count tokens.")
        asked = {"model": self._model, **self._dialect.tokenize(text, opening)}
        answer: Any = (await self._wire.post("/tokenize", asked, deadline=deadline)).get("tokens")
        if not isinstance(answer, list) or not all(isinstance(i, int) and not isinstance(i, bool) for i in answer):
            raise EngineUnavailable("The model server's token list holds something that is no token.")
        return tuple(answer)


async def find_tokens(wire: ServerWire, dialect: Dialect, model: str, file: Path | None) -> Tokens:
    """A local tokenizer where `file` (or the folder it is in) is given, else the server's own.

    Raises NotReady where there is neither: tokens that cannot be counted cannot be limited.
    """
    if file is not None:
        return await asyncio.to_thread(_load, file)
    if dialect.tokenize is None:
        raise NotReady(
            f"The {dialect.name} server does not count tokens, so they could not be limited.",
            next_step="Set edge.remote.tokenizer to the model's tokenizer.json.",
        )
    found = ServerTokens(wire, dialect, model)
    await found.learn()
    return found


def _before(bare: Ids, opened: Ids) -> Ids:
    """Tokens that were put before a text's own."""
    return opened[: opened.index(bare[0])] if bare and bare[0] in opened else ()


def _must_join(whole: Ids, parts: Sequence[Ids]) -> None:
    if whole != tuple(token for part in parts for token in part):
        raise NotReady(
            "The model's tokenizer changes the beginning of each segment, so prompts cannot be built from parts.",
            next_step="Use a model with a byte-level tokenizer, such as Llama 3 or Qwen.",
        )


def _load(path: Path) -> LocalTokens:
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise NotReady(
            "The tokenizer package is not installed.", next_step="Run: pip install 'edgeclaw[remote]'"
        ) from None
    path = path / "tokenizer.json" if path.is_dir() else path
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise NotReady(f"The tokenizer {path} cannot be read: {error.strerror}.") from None
    try:
        tokenizer = Tokenizer.from_str(raw.decode())
    except Exception as error:  # the library raises no narrower kind
        raise NotReady(f"{path} is not a tokenizer file ({error}).") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return LocalTokens(tokenizer, hashlib.sha256(raw).hexdigest())
