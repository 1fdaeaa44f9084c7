"""The Python interface: `EdgeAgent(...).run(goal)` and `.analyze(file)`.

A goal is in words. The model on this machine maps it onto a fixed catalogue of actions by choosing a letter; nothing
that it writes is ever run. Trading is on paper: real money is the service's, behind its own limits.

Every error is an `EdgeclawError` of `market.errors`: a plain sentence, and in `next_step` what to do about it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from agent.config.load import load_config, profile_for
from agent.config.schema import Config
from agent.goals import TOOLS, GoalResult
from agent.host.egress import embedded
from market.errors import Misconfigured

if TYPE_CHECKING:
    from agent.analysis.analysis import Analysed

T = TypeVar("T")


class EdgeAgent:
    """A small model on this machine, with tools.

    Args:
        model: a known name ("smollm2-135m") or the path of a GGUF file; None is the configured one.
        inference: "edge", which is on this machine; there is no other.
        strategy: "compute-optimal" gives each decision a search that is worth its tokens, "fixed" the configured one;
            None is the configured strategy.
        tools: names of what goals may use, of "market-data-api", "wallet-api" and "order-api".
        engine: a runtime as in `edge.runtime` ("llamacpp", "openvino", "openai", "mlc", "scripted"); None is the
            configured one.
        config: a YAML file that is read over the defaults.
        feed: the recording that goals are run on: "sample", or a folder or file.

    Nothing is loaded, opened or asked until a goal or a file is given.

    Raises:
        Misconfigured: for an unknown tool, inference, strategy or engine, or a file that is no valid configuration.
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
        """Map a goal onto an action of the catalogue, and do it: forecast the next slot of the feed ("predict"), tell
        how the accounts stand ("portfolio"), or trade on paper for twelve slots, an hour ("trade").

        Raises:
            Misconfigured: for an empty goal, no tools, or a model that is neither known nor a file.
            NotReady: where an engine, a model, a recording or the database is missing.
            EngineUnavailable: where the model does not answer; EngineTimeout where it does not in time.
            DataInvalid: for a recording that is not there or cannot be read.
            StoreUnavailable: where the database cannot be written.
        """
        from agent.goals import done

        with embedded():
            return await done(self.config, self.feed, self.tools, goal)

    async def aanalyze(self, file: str | Path, question: str = "") -> Analysed:
        """Answer a question about a table, or without a question tell what stands out in it.

        The first row of `file` (CSV, TSV, Excel or Parquet) has the columns' names. At most 4,000 tokens are spent.

        Raises:
            Misconfigured: for a file that is not there, is of another kind, or is no table.
            NotReady: where the extra `analysis`, an engine or a model is missing.
            EngineUnavailable: where the model does not answer; EngineTimeout where it does not in time.
        """
        from agent.app.analysing import analysed

        with embedded():
            return await analysed(self.config, Path(file), question)

    def run(self, goal: str) -> GoalResult:
        """`arun`, for programs without an event loop. Raises as it does, and RuntimeError where there is one."""
        return _blocking(lambda: self.arun(goal))

    def analyze(self, file: str | Path, question: str = "") -> Analysed:
        """`aanalyze`, for programs without an event loop. Raises as it does, and RuntimeError where there is one."""
        return _blocking(lambda: self.aanalyze(file, question))


def _blocking(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work())
    raise RuntimeError("There is an event loop already: await arun() or aanalyze() instead.")
