"""Discovery of a server before it is relied on: its dialect, its model, its token counts, and a test of the one
function that the agent needs: a choice among labels, with probabilities.

All facts come from the server itself; its self-description is labelled as such in the identity.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.llm.engine import ModelIdentity, Prompt, Question
from agent.llm.openai.address import address, confirm
from agent.llm.openai.breaker import Breaker
from agent.llm.openai.dialects import Dialect, named
from agent.llm.openai.engine import OpenAIEngine, ServerModel
from agent.llm.openai.tokens import Tokens, find_tokens
from agent.llm.openai.wire import ServerWire
from market.errors import EngineUnavailable, NotReady
from storage.canonical import Json, digest

_VOLATILE = ("created", "permission")
_CHOICE = Question(Prompt(("Is the sky blue? Answer yes or no. The answer is",)), (" yes", " no"))
_SAID = "as its server describes it"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """Address and treatment of a server. `model` may be empty where it has only one; `context` of 0 asks the server;
    `tokenizer` is a tokenizer.json or its folder; `timeout` is seconds for any one answer, `cooldown` seconds for which
    a server that failed repeatedly is not asked."""

    url: str
    allow_remote: bool
    api_key_file: Path | None
    model: str
    tokenizer: Path | None
    context: int
    timeout: float
    parallel: int
    cooldown: float = 30.0


@asynccontextmanager
async def wired(remote: ServerSettings) -> AsyncIterator[ServerWire]:
    """A connection pool to a checked address."""
    where = address(remote.url, allow_remote=remote.allow_remote)
    key = _key(remote.api_key_file)
    await confirm(where)
    wire = ServerWire(where, api_key=key, timeout=remote.timeout, parallel=remote.parallel)
    try:
        yield wire
    finally:
        await wire.aclose()


@asynccontextmanager
async def open_server(remote: ServerSettings) -> AsyncIterator[OpenAIEngine]:
    """An engine over a server that is running.

    Raises Misconfigured for an address or key file, EngineUnavailable where the server does not answer, NotReady where
    it cannot do what is needed.
    """
    async with wired(remote) as wire:
        dialect, entry = await introduced(wire, remote.model)
        tokens = await find_tokens(wire, dialect, entry["id"], remote.tokenizer)
        engine = OpenAIEngine(wire, tokens, served(remote, dialect, entry, tokens), Breaker(cooldown=remote.cooldown))
        await prove_choice(engine)
        yield engine


async def introduced(wire: ServerWire, wanted: str) -> tuple[Dialect, dict[str, Any]]:
    """The server's dialect, and its own entry of the requested model."""
    listed = (await wire.get("/v1/models")).get("data")
    entries = (
        [e for e in listed if isinstance(e, dict) and isinstance(e.get("id"), str)] if isinstance(listed, list) else []
    )
    names = [str(entry["id"]) for entry in entries]
    if not entries:
        raise NotReady("The server lists no model.", next_step="Check that edge.remote.url is a model server.")
    if wanted and wanted not in names:
        raise NotReady(f"The server has no model {wanted!r}.", next_step=f"It has: {', '.join(names)}.")
    if not wanted and len(names) > 1:
        raise NotReady("The server has several models.", next_step=f"Set edge.remote.model: {', '.join(names)}.")
    entry = entries[names.index(wanted) if wanted else 0]
    return named(str(entry.get("owned_by"))), entry


def served(
    remote: ServerSettings,
    dialect: Dialect,
    entry: Mapping[str, Any],
    tokens: Tokens,
    files: Mapping[str, Json] | None = None,
) -> ServerModel:
    """Facts about the server. `files` are hashes of the model's own files, where they are on this machine."""
    context = remote.context or _context(entry)
    if not context:
        raise NotReady(
            "The server does not say how long a prompt may be.", next_step="Set edge.remote.context to its tokens."
        )
    # These fields differ from call to call on some servers; the digest must not.
    described = {key: value for key, value in entry.items() if key not in _VOLATILE}
    known: dict[str, Json] = {"server": dialect.name, "context": context, "tokenizer": tokens.sha256}
    known |= {"files": files} if files else {"described": described}
    identity = ModelIdentity(
        engine=dialect.name,
        model=str(entry["id"]),
        sha256=digest(known),
        library=f"{dialect.name}, {'by its files' if files else _SAID}",
    )
    return ServerModel(dialect, str(entry["id"]), identity, context, remote.parallel)


async def prove_choice(engine: OpenAIEngine) -> None:
    """Ask one question whose answer does not matter. Raises NotReady where the server cannot answer it."""
    try:
        await engine.classify([_CHOICE])
    except (EngineUnavailable, ValueError) as error:
        raise NotReady(
            f"The server cannot choose among labels: {str(error).rstrip('.')}.",
            next_step="It must honour logit_bias, and its tokenizer must be the one configured.",
        ) from error


def _context(entry: Mapping[str, Any]) -> int:
    """Context length in tokens: `meta.n_ctx` of llama-server, `max_model_len` of vLLM; 0 if not stated."""
    meta = entry.get("meta")
    size = meta.get("n_ctx") if isinstance(meta, Mapping) else entry.get("max_model_len")
    return size if isinstance(size, int) and size > 0 else 0


def _key(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        key = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        raise NotReady(f"The key file {path} cannot be read.", next_step="Check edge.remote.api_key_file.") from None
    if not key or not key.isprintable():
        raise NotReady(f"The key file {path} holds no key.", next_step="Put the key alone into it.")
    return key
