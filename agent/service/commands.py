"""What can be asked of a run from outside: stop, go on, and how it stands. The kill switch decides, not the asker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agent.config import Config
from agent.service.pulse import Pulse
from agent.status import status
from market.clock import Clock
from storage.canonical import Json, plain
from storage.store import Store
from tools.halts import KillSwitch

_BY = "MQTT"


@dataclass(frozen=True, slots=True)
class Commands:
    """Each takes a JSON object and answers with one. A ValueError is a sentence for who asked."""

    config: Config
    store: Store
    switch: KillSwitch
    pulse: Pulse
    clock: Clock

    async def halt(self, asked: Mapping[str, Json]) -> Json:
        """Stop trading, take orders back, and stay halted across restarts until a person resumes."""
        halted = self.switch.throw(_text(asked, "reason") or "asked to over MQTT", _BY, self.clock.now())
        return {"halted": halted.sentence(), "at": halted.at}

    async def pause(self, asked: Mapping[str, Json]) -> Json:
        """The same, said by somebody who means to come back soon."""
        return await self.halt({"reason": _text(asked, "reason") or "paused over MQTT"})

    async def resume(self, asked: Mapping[str, Json]) -> Json:
        """Allow trading again. Wants a reason, as the command line does, and the instant of the halt that it lifts: a
        broker may bring a command late or twice, and it must not lift a halt that came after it was sent."""
        reason, standing = _text(asked, "reason"), self.switch.read()
        if not reason:
            raise ValueError('resume needs a reason: {"reason": "what was looked at", "halt": "when it was halted"}.')
        if standing is not None and _text(asked, "halt") != standing.at:
            raise ValueError(f"That is another halt than the one in force. {standing.sentence()}")
        stood = self.switch.release(reason, _BY, self.clock.now())
        return {"was": None if stood is None else stood.sentence()}

    async def status(self, asked: Mapping[str, Json]) -> Json:
        """Accounts, positions, halt and health."""
        found = plain(await status(self.store, self.switch.read(), self.clock.now()))
        health: Json = {"well": not self.pulse.remarks(), "complaints": list(self.pulse.remarks())}
        return {"status": found, "stage": self.pulse.stage, "health": health}

    async def limits(self, asked: Mapping[str, Json]) -> Json:
        """What may be risked, and what is."""
        return {"limits": self.config.risk.model_dump(mode="json"), "at_risk_micro_dollars": self.pulse.at_risk()}

    async def show_config(self, asked: Mapping[str, Json]) -> Json:
        """The configuration it runs with. It names files of secrets, and holds none."""
        found: Json = self.config.model_dump(mode="json")
        return found


def _text(asked: Mapping[str, Json], name: str) -> str:
    value = asked.get(name, "")
    if not isinstance(value, str):
        raise ValueError(f"{name} must be text.")  # noqa: TRY004
    return value.strip()[:500]
