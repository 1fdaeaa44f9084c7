"""Loopback model server in the dialects of `mlc_llm serve`, llama-server and vLLM, traps included.

Runs in the test's own loop, or as a process of its own (`python -m tests.model_server ... --port N`) that takes the
arguments of `mlc_llm serve`. Its answers come from a tiny deterministic model. Faults are switched while it runs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Any

import numpy as np
from aiohttp import web

from agent.llm.scripted import Rule
from agent.llm.trie import Trie
from tests.tiny_model import END, TinyModel

CONTEXT = 2048
# log(1e-10).
_FLOOR = -23.0259
Body = dict[str, Any]


class Fault(StrEnum):
    """Injected faults; each was seen on a real server or is a false answer that one could give."""

    NONE = "none"
    DEAD = "dead"  # the engine thread is gone: models are listed, all else hangs
    HANG = "hang"
    TEXT_500 = "text_500"
    ENCODED_400 = "encoded_400"
    RESET = "reset"
    REDIRECT = "redirect"
    NOT_JSON = "not_json"
    ENDLESS = "endless"
    TWO_CHOICES = "two_choices"
    NO_USAGE = "no_usage"
    UNDERCOUNT = "undercount"
    NO_LOGPROBS = "no_logprobs"
    SHORT_LOGPROBS = "short_logprobs"
    GARBAGE_LOGPROBS = "garbage_logprobs"
    POSITIVE_LOGPROB = "positive_logprob"
    NAN_LOGPROB = "nan_logprob"
    BIAS_IGNORED = "bias_ignored"


class ModelServer:
    """Loopback model server in one of the dialects. `asked` holds every completion request. `base` is the address once
    it serves."""

    def __init__(self, flavour: str = "mlc", rule: Rule | None = None, *, debug: bool = True, salt: str = "") -> None:
        self.flavour = flavour
        self.fault = Fault.NONE
        self.asked: list[Body] = []
        self.base = ""
        self._debug = debug
        self._model = TinyModel(rule, salt)
        self._cache = Trie()
        self._users: set[str] = set()
        self._ended = asyncio.Event()

    @asynccontextmanager
    async def serving(self, port: int = 0) -> AsyncIterator[ModelServer]:
        app = web.Application(client_max_size=1 << 22)
        app.add_routes(
            [
                web.get("/v1/models", self._models),
                web.get("/metrics" if self.flavour == "mlc" else "/health", self._alive),
                web.post("/v1/completions", self._completions),
                web.post("/v1/chat/completions", self._chat),
                web.post("/fault", self._set_fault),
            ]
        )
        if self.flavour in ("llamacpp", "vllm"):
            app.add_routes([web.post("/tokenize", self._tokenize)])
        runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", port)
            await site.start()
            self.base = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield self
        finally:
            self._ended.set()
            await runner.cleanup()

    async def _models(self, _: web.Request) -> web.Response:
        owners = {"mlc": "MLC-LLM", "llamacpp": "llamacpp", "vllm": "vllm"}
        entry: Body = {
            "id": "tiny",
            "object": "model",
            "created": os.getpid(),
            "owned_by": owners.get(self.flavour, "me"),
        }
        says: dict[str, Body] = {"llamacpp": {"meta": {"n_ctx": CONTEXT}}, "vllm": {"max_model_len": CONTEXT}}
        entry |= says.get(self.flavour, {})
        return web.json_response({"object": "list", "data": [entry]})

    async def _alive(self, _: web.Request) -> web.Response:
        if self.fault is Fault.DEAD:
            await self._ended.wait()
        return web.Response(text="engine\tok\n")

    async def _set_fault(self, request: web.Request) -> web.Response:
        named = (await request.json())["name"]
        if named == "exit":
            os._exit(3)
        self.fault = Fault(named)
        return web.Response(text=named)

    async def _tokenize(self, request: web.Request) -> web.Response:
        body = await request.json()
        text = body["content" if self.flavour == "llamacpp" else "prompt"]
        return web.json_response({"tokens": self._model.encode(text)})

    async def _chat(self, request: web.Request) -> web.Response:
        """Only the trap: more than five alternatives kill the engine thread."""
        if (await request.json()).get("top_logprobs", 0) > 5:
            self.fault = Fault.DEAD
            await self._ended.wait()
        return web.Response(status=501, text="this server only completes")

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        body: Body = await request.json()
        self.asked.append(body)
        user = body.get("user")
        if user in self._users:
            return web.Response(status=500, text="Internal Server Error")
        if user is not None:
            self._users.add(user)
            await self._ended.wait()
        if (refusal := self._refusal(body)) is not None:
            return refusal
        if self._kills(body):
            self.fault = Fault.DEAD
        if (failure := await self._failure(request)) is not None:
            return failure
        answer = self._lied(self._answer(body))
        return web.Response(text=json.dumps(answer), content_type="application/json")

    def _refusal(self, body: Body) -> web.Response | None:
        """Refusals that real servers give before the engine sees the request."""
        if body.get("logprobs", 0) > 5 and self.flavour == "mlc":
            return web.json_response({"detail": [{"msg": "logprobs must be in range [0, 5]"}]}, status=422)
        if body.get("response_format", {}).get("type") == "json_schema" and self.flavour == "mlc":
            return web.json_response({"detail": [{"msg": "Input should be 'text' or 'json_object'"}]}, status=422)
        if body.get("temperature", 1) < 0:
            return web.Response(status=500, text="Internal Server Error")
        if len(self._ids(body)) >= CONTEXT:
            said = json.dumps({"object": "error", "message": f"Request prompt has {len(self._ids(body))} tokens"})
            return web.json_response(said, status=400)
        return None

    def _kills(self, body: Body) -> bool:
        schema = body.get("response_format", {}).get("schema")
        if schema is None:
            return False
        try:
            kind = json.loads(schema).get("type")
        except ValueError:
            return True
        return kind not in ("object", "array", "string", "integer", "number", "boolean", "null", None)

    async def _failure(self, request: web.Request) -> web.StreamResponse | None:
        if self.fault in (Fault.DEAD, Fault.HANG):
            await self._ended.wait()
        if self.fault is Fault.TEXT_500:
            return web.Response(status=500, text="Internal Server Error")
        if self.fault is Fault.ENCODED_400:
            return web.json_response(json.dumps({"object": "error", "message": "the cache is full"}), status=400)
        if self.fault is Fault.REDIRECT:
            return web.Response(status=307, headers={"Location": "http://192.0.2.1/v1/completions"})
        if self.fault is Fault.NOT_JSON:
            return web.Response(text="<html>proxy</html>", content_type="application/json")
        if self.fault is Fault.RESET and request.transport is not None:
            request.transport.abort()
        if self.fault is Fault.ENDLESS:
            return web.Response(body=b" " * (5 << 20), content_type="application/json")
        return None

    def _ids(self, body: Body) -> list[int]:
        prompt = body["prompt"]
        return self._model.encode(prompt) if isinstance(prompt, str) else list(prompt)

    def _answer(self, body: Body) -> Body:
        ids = self._ids(body)
        cached = len(ids) - max(1, self._cache.take(ids))
        count, choices, sampled = body.get("n", 1), [], 0
        for number in range(count):
            text, ended, logprobs, tokens = self._choice(body, ids, number)
            choices.append({"index": number, "text": text, "finish_reason": ended, "logprobs": logprobs})
            sampled += tokens
        usage: Body = {"prompt_tokens": len(ids), "completion_tokens": sampled, "total_tokens": len(ids) + sampled}
        answer: Body = {"id": "cmpl-1", "object": "text_completion", "model": body.get("model"), "choices": choices}
        if self.flavour == "mlc":
            usage["extra"] = {"prefill_tokens": len(ids) - cached, "decode_tokens": sampled} if self._debug else None
        if self.flavour == "llamacpp":
            answer["timings"] = {"cache_n": cached, "prompt_n": len(ids) - cached, "predicted_n": sampled}
        if self.flavour == "vllm":
            usage["prompt_tokens_details"] = {"cached_tokens": cached}
        return answer | {"usage": usage}

    def _choice(self, body: Body, prompt: list[int], number: int) -> tuple[str, str, Body | None, int]:
        bias = {} if self.fault is Fault.BIAS_IGNORED else {int(t): b for t, b in body.get("logit_bias", {}).items()}
        chance = np.random.default_rng([body.get("seed") or 0, number])
        ids, written, first = list(prompt), list[int](), None
        stops = body.get("stop") or []
        limit, ended = body.get("max_tokens") or CONTEXT - len(prompt), "length"
        while len(written) < limit:
            token, logprobs = self._model.sampled(self._model.logits(ids, bias), body.get("temperature", 1.0), chance)
            first = logprobs if first is None else first
            written.append(token)
            ids.append(token)
            text = self._model.decode(written)
            if token == END or any(stop in text for stop in stops):
                ended = "stop"
                break
        text = self._model.decode([t for t in written if t != END])
        for stop in stops:
            text = text.partition(stop)[0]
        wanted = body.get("logprobs")
        shown = None if wanted is None or first is None else self._logprobs(body, first, written[0], wanted)
        return text, ended, shown, len(written)

    def _logprobs(self, body: Body, row: Any, token: int, wanted: int) -> Body:
        """Log-probabilities of the first token, in each server's own form."""
        top = [int(t) for t in np.argsort(-row, kind="stable")[:wanted]]
        if self.flavour == "llamacpp":
            kind = (
                ("prob", "top_probs", np.exp) if body.get("post_sampling_probs") else ("logprob", "top_logprobs", float)
            )
            entries = [{"id": t, "token": self._model.texts[t], kind[0]: float(kind[2](row[t]))} for t in top]
            return {"content": [{"id": token, "token": self._model.texts[token], kind[1]: entries}]}
        if self.flavour == "vllm":
            unbiased = self._model.logits(self._ids(body), dict.fromkeys(body.get("logprob_token_ids", ()), 0.0))
            raw = unbiased - unbiased.max()
            raw -= np.log(np.exp(raw).sum())
            listed = {*body.get("logprob_token_ids", top), token}
            return {"tokens": [f"token_id:{token}"], "top_logprobs": [{f"token_id:{t}": float(raw[t]) for t in listed}]}
        shown = self._printed if self.flavour == "mlc" else self._model.texts.__getitem__
        named = {shown(t): max(_FLOOR, float(row[t])) for t in top}
        own = max(_FLOOR, float(row[token]))
        return {"text_offset": None, "tokens": [shown(token)], "token_logprobs": [own], "top_logprobs": [named]}

    def _printed(self, token: int) -> str:
        return "".join(c for c in self._model.texts[token] if 33 <= ord(c) <= 126)

    def _lied(self, answer: Body) -> Body:
        """The answer as distorted by the present fault."""
        choice = answer["choices"][0]
        if self.fault is Fault.TWO_CHOICES:
            answer["choices"].append(choice)
        if self.fault is Fault.NO_USAGE:
            return {key: value for key, value in answer.items() if key not in ("usage", "timings")}
        if self.fault is Fault.UNDERCOUNT:
            answer["usage"] = {"prompt_tokens": 1, "completion_tokens": 0, "extra": {"prefill_tokens": 0}}
            answer["timings"] = {"prompt_n": 0}
        if choice["logprobs"] is not None:
            _FALSE_LOGPROBS.get(self.fault, _true)(choice)
        return answer


def _rows(choice: Body) -> tuple[Body, str]:
    """The object that holds the alternatives of the first token, and the key they are under."""
    logprobs = choice["logprobs"]
    if "content" not in logprobs:
        return logprobs, "top_logprobs"
    first = logprobs["content"][0]
    return first, "top_probs" if "top_probs" in first else "top_logprobs"


def _true(choice: Body) -> None:
    """Leave the answer unchanged."""


def _missing(choice: Body) -> None:
    choice["logprobs"] = None


def _short(choice: Body) -> None:
    holder, key = _rows(choice)
    if "content" in choice["logprobs"]:
        holder[key] = holder[key][:1]
    else:
        holder[key] = []


def _garbage(choice: Body) -> None:
    holder, key = _rows(choice)
    if "content" in choice["logprobs"]:
        holder[key] = [{"id": 0, "token": "<|endoftext|>", "logprob": -0.013}]
    else:
        holder[key] = [{"<|endoftext|>": -0.013, "total": -4.5}]


def _overwritten(value: float) -> Callable[[Body], None]:
    def change(choice: Body) -> None:
        holder, key = _rows(choice)
        rows = holder[key]
        if "content" in choice["logprobs"]:
            name = "prob" if "prob" in rows[0] else "logprob"
            rows[0][name] = value if name == "logprob" else 1 + abs(value)
        else:
            rows[0][next(iter(rows[0]))] = value

    return change


_FALSE_LOGPROBS: Mapping[Fault, Callable[[Body], None]] = {
    Fault.NO_LOGPROBS: _missing,
    Fault.SHORT_LOGPROBS: _short,
    Fault.GARBAGE_LOGPROBS: _garbage,
    Fault.POSITIVE_LOGPROB: _overwritten(0.543),
    Fault.NAN_LOGPROB: _overwritten(float("nan")),
}


async def _serve(port: int, stubborn: bool, salt: str) -> None:
    """Serve until SIGTERM; ignored if stubborn, or if the engine is dead."""
    ended = asyncio.Event()
    async with ModelServer(salt=salt).serving(port) as server:
        asyncio.get_running_loop().add_signal_handler(
            signal.SIGTERM, lambda: None if stubborn or server.fault is Fault.DEAD else ended.set()
        )
        await ended.wait()


def main() -> None:
    """Accepts the arguments of `python -m mlc_llm serve`; only the port matters."""
    reader = argparse.ArgumentParser()
    reader.add_argument("--port", type=int, required=True)
    reader.add_argument("--stubborn", action="store_true")
    reader.add_argument("--salt", default="", help="another model of the same shape")
    known, _ = reader.parse_known_args()
    asyncio.run(_serve(known.port, known.stubborn, known.salt))


if __name__ == "__main__":
    main()
