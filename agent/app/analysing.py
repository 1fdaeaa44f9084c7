"""A file asked about with the model of this box; nothing leaves it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from agent.app.engines import unprimed
from agent.app.settings import analysis_limits
from agent.config.places import own_hosts
from agent.config.schema import Config
from agent.decision.budget import Budget
from agent.host.egress import confined
from market.errors import NotReady

if TYPE_CHECKING:
    from agent.analysis.analysis import Analysed

_TOKENS = 4000
"""Tokens of one analysis at most."""


async def analysed(config: Config, file: Path, question: str = "", decimal: str = "") -> Analysed:
    """Answer a question about a file, or tell what stands out in it; `decimal` is point, comma or empty. Raises
    Misconfigured for a file that cannot be read, NotReady where the packages are missing."""
    if find_spec("polars") is None:
        raise NotReady("Polars is not installed.", next_step="Run: pip install 'edgeclaw[analysis]'")
    from agent.analysis.analysis import analyse
    from agent.analysis.prompts import opening

    edge = config.edge
    with confined(own_hosts(config)):
        async with unprimed(edge) as engine:
            await engine.prime(opening())
            return await analyse(file, question, engine, Budget(analysis_limits(edge, _TOKENS)), decimal)
