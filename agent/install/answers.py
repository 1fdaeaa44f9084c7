"""Acceptance check of an MLC installation: start the engine as it will be run, ask one question, compare the answer.

It has a minimal HTTP client of its own; the agent's client is in another module.
"""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from time import sleep
from typing import Any

from agent.install import notes, weights
from agent.install.command import Command, serving
from agent.install.library import compiled
from agent.install.place import AGAIN, Installation
from market.clock import monotonic
from market.errors import NotReady

SERVE_OVERRIDES = "max_num_sequence=16;max_total_seq_length=8192;prefill_chunk_size=2048"
PROMPT = "Question: What is the capital of France? Answer: The capital of France is"
EXPECTED = "Paris"
"""A model that does not answer this is broken, whatever it is meant for."""

TOKENS = 16
_START, _ANSWER, _HEALTH, _POLL = 300.0, 120.0, 5.0, 0.25
_NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, slots=True)
class CheckAnswers:
    """Compare the model's greedy answer with the recorded one; the first installation of a model file records it."""

    place: Installation
    pause: Callable[[float], None] = field(default=sleep)
    title: str = "Check the model's answer"

    def describe(self) -> str:
        return (
            f"{serve(self.place, 'PORT')}; GET /metrics; POST /v1/completions; compare with {self.place.golden} "
            "(record it there if it is the first); stop it"
        )

    def done(self) -> bool:
        noted = notes.read_note(self.place.record)
        library = noted.get("library")
        return (
            compiled(self.place) and isinstance(library, dict) and noted.get("answered_with") == library.get("sha256")
        )

    def run(self, progress: Callable[[float], None]) -> None:
        text = self._answer(progress)
        if EXPECTED not in text:
            message = f"The compiled model does not answer sensibly: {text[:80]!r}."
            raise NotReady(message, next_step=f"Delete {self.place.library} and install again.")
        self._compare(text)
        noted = notes.read_note(self.place.record)
        notes.write_note(self.place.record, {**noted, "answered_with": noted["library"]["sha256"]})

    def _answer(self, progress: Callable[[float], None]) -> str:
        port = _free_port()
        log = self.place.folder / "serve.log"
        with serving(serve(self.place, str(port)), log) as process:
            base = f"http://127.0.0.1:{port}"
            if not self._healthy(base, process):
                said = (
                    log.read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2][:300]
                    or "it said nothing"
                )
                raise NotReady(f"The engine did not start: {said.rstrip('.')}.", next_step=f"Read {log}.")
            progress(0.5)
            body = {"model": str(self.place.weights), "prompt": self.place.model.bos + PROMPT, "temperature": 0.0}
            said = _posted(f"{base}/v1/completions", {**body, "max_tokens": TOKENS})
        progress(0.9)
        try:
            return str(json.loads(said)["choices"][0]["text"])
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise NotReady(f"The engine's answer cannot be read: {said[:80]!r}.", next_step=f"Read {log}.") from error

    def _healthy(self, base: str, process: subprocess.Popen[str]) -> bool:
        """Wait until /metrics answers: it is the one call that goes through the engine itself."""
        began = monotonic()
        while process.poll() is None and monotonic() - began < _START:
            try:
                with _NO_PROXY.open(f"{base}/metrics", timeout=_HEALTH) as answer:
                    if answer.status == 200:
                        return True
            except (OSError, http.client.HTTPException):
                pass  # not yet
            self.pause(_POLL)
        return False

    def _compare(self, text: str) -> None:
        weights_digest = weights.locked(self.place).digest
        golden = notes.read_note(self.place.golden)
        found = {"weights": weights_digest, "prompt": PROMPT, "tokens": TOKENS, "text": text}
        if golden.get("weights") != weights_digest or golden.get("prompt") != PROMPT:
            made = notes.read_note(self.place.record).get("made_from")
            notes.write_note(self.place.golden, {**found, "recorded_with": made})
        elif golden.get("text") != text:
            message = f"The same model now answers {text[:80]!r} where it answered {str(golden.get('text'))[:80]!r}."
            raise NotReady(message, next_step=f"If an upgrade explains it, delete {self.place.golden}. {AGAIN}")


def serve(place: Installation, port: str) -> Command:
    """The command that serves this model on the loopback interface."""
    words = ("--model-lib", str(place.library), "--device", place.accelerator.device, "--mode", "local")
    where = ("--overrides", SERVE_OVERRIDES, "--host", "127.0.0.1", "--port", port)
    return place.engine("serve", str(place.weights), *words, *where)


def _posted(url: str, body: dict[str, Any]) -> str:
    """The response body of a POST. Raises NotReady without an answer in time."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})  # noqa: S310 - loopback
    try:
        with _NO_PROXY.open(request, timeout=_ANSWER) as answer:
            return bytes(answer.read(1 << 20)).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        raise NotReady(f"The engine started but did not answer: {error}.", next_step=AGAIN) from error


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
