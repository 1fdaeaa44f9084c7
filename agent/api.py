"""The agent as a Python object: `EdgeAgent(...).run(goal)` and `.analyze(file)`.

A goal is in words. The model on this box maps it onto a fixed catalogue of deeds by choosing a letter, and nothing that
it writes is ever run. Trading is on paper: real money is the service's, behind its own limits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from agent.config.load import load_config, profile_for
from agent.config.schema import Config
from agent.goals import TOOLS, GoalResult
from market.errors import Misconfigured

if TYPE_CHECKING:
    from agent.analysis.analysis import Analysed

T = TypeVar("T")


class EdgeAgent:
    """A small model on this box with tools. `model` is a known name or a GGUF file, `strategy` how hard it searches,
    `tools` what it may use, `config` a file over the defaults, `feed` the recording that it looks at.

    Raises Misconfigured for a tool or an inference that there is not.
    """

    def __init__(
        self,
        model: str | None = None,
        inference: str = "edge",
        strategy: str | None = None,
        tools: Sequence[str] = TOOLS,
        *,
        engine: str | None = None,
        config: Path | None = None,
        feed: str = "sample",
    ) -> None:
        if inference != "edge":
            raise Misconfigured(
                f"inference={inference!r} is not possible.", next_step="The model runs on this box: edge."
            )
        if unknown := [tool for tool in tools if tool not in TOOLS]:
            raise Misconfigured(f"there is no tool {unknown[0]!r}.", next_step=f"Choose of {', '.join(TOOLS)}.")
        asked = {"edge.model": model, "edge.strategy": strategy, "edge.runtime": engine}
        values = {key: value for key, value in asked.items() if value is not None}
        self.tools, self.feed = tuple(dict.fromkeys(tools)), feed
        self.config: Config = load_config(config, values, profile=profile_for(feed))

    async def arun(self, goal: str) -> GoalResult:
        """Map a goal onto a deed and do it. Raises what the deed raises: NotReady, Misconfigured, EngineUnavailable."""
        from agent.goals import done

        return await done(self.config, self.feed, self.tools, goal)

    async def aanalyze(self, file: str | Path, question: str = "") -> Analysed:
        """Answer a question about a table, or tell what stands out in it. Raises as `edgeclaw analyze` does."""
        from agent.app.analysing import analysed

        return await analysed(self.config, Path(file), question)

    def run(self, goal: str) -> GoalResult:
        """`arun`, for programs without an event loop."""
        return _blocking(lambda: self.arun(goal))

    def analyze(self, file: str | Path, question: str = "") -> Analysed:
        """`aanalyze`, for programs without an event loop."""
        return _blocking(lambda: self.aanalyze(file, question))


def _blocking(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work())
    raise RuntimeError("There is an event loop already: await arun() or aanalyze() instead.")
