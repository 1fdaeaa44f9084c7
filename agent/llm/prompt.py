"""A prompt as a value. Pure; part of the port in `agent/llm/engine.py`, which names it too."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Prompt:
    """Text in segments, static part first. Each segment is tokenised by itself, so that the tokens of a shared
    beginning never depend on what follows it."""

    segments: tuple[str, ...]

    def then(self, *more: str) -> Prompt:
        return Prompt(self.segments + more)

    @property
    def text(self) -> str:
        return "".join(self.segments)
