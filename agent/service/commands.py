"""Remote commands to a run: halt, resume, inhibit, and status queries. The kill switch decides, not the sender."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError

from agent.config.load import public_values
from agent.config.schema import Config
from agent.service.contract import COMMANDS, NAME, CommandRequest, HaltRequest, Resume, SignalTold
from agent.service.pulse import Pulse
from agent.trading.bus import Bus
from agent.trading.inhibit import Inhibitor, InhibitSignal
from market.clock import Clock, WallClock
from market.events import SignalHeard
from market.types import micro
from storage.canonical import Json, plain
from tools.halts import KillSwitch

_BY = "MQTT"
A = TypeVar("A", bound=CommandRequest)


@dataclass(frozen=True, slots=True)
class Commands:
    """Handlers of commands and signals: each takes a JSON object and returns another. A ValueError is a sentence for
    the sender."""

    config: Config
    switch: KillSwitch
    pulse: Pulse
    clock: Clock
    inhibitor: Inhibitor
    bus: Bus

    async def handle_command(self, name: str, asked: bytes) -> Json:
        """Execute a command. Raises ValueError for an unknown, invalid or expired one."""
        known: Mapping[str, Callable[[Any], Awaitable[Json]]] = {
            "halt": self._halt,
            "pause": self._pause,
            "resume": self._resume,
            "status": self._status,
            "limits": self._limits,
            "config": self._config,
        }
        if name not in COMMANDS:
            raise ValueError(f"There is no command {name}: use one of {', '.join(COMMANDS)}.")
        return await known[name](self._read(COMMANDS[name], asked))

    async def handle_signal(self, name: str, told: bytes) -> Json:
        """Apply an external signal. It can inhibit new orders for a while, and nothing else. Raises ValueError."""
        if not re.fullmatch(NAME, name):
            raise ValueError(f"A signal name has lower-case letters, digits and hyphens, not {name!r}.")
        heard, now = self._read(SignalTold, told), self.clock.now()
        self.inhibitor.inhibit(InhibitSignal(name, heard.until, heard.why), now)
        self.bus.publish(SignalHeard(at=now, name=name, until=heard.until, why=heard.why))
        return {"standing": self._standing()}

    def _read(self, model: type[A], asked: bytes) -> A:
        try:
            made = model.model_validate_json(asked or b"{}")
        except ValidationError as error:
            raise ValueError(_sentence(error)) from None
        if made.expires is not None and made.expires <= self.clock.now():
            raise ValueError(f"The command expired at {made.expires.isoformat()}.")
        return made

    async def _halt(self, asked: HaltRequest) -> Json:
        halted = self.switch.throw(asked.reason.strip() or "asked to over MQTT", _BY, WallClock().now())
        return {"halted": halted.sentence(), "at": halted.at}

    async def _pause(self, asked: HaltRequest) -> Json:
        """Halt, with another default reason, by a person who means to resume soon."""
        return await self._halt(HaltRequest(reason=asked.reason.strip() or "paused over MQTT"))

    async def _resume(self, asked: Resume) -> Json:
        """Requires a reason, as the command line does, and the instant of the halt that it lifts: a broker may deliver
        a command late or twice, and it must not lift a halt that came after it was sent. Losses go on counting: where a
        loss limit is reached, the margin until it halts again has to be stated, or the limits to be reset."""
        reason = asked.reason.strip()
        if not reason:
            raise ValueError('resume needs a reason: {"reason": "what was looked at", "halt": "when it was halted"}.')
        margin, breach = None if asked.margin is None else micro(asked.margin), self.pulse.breach()
        if breach and margin is None and not asked.reset_limits and self.switch.read() is not None:
            raise ValueError(
                f'Trading stays halted: {breach}. State how many dollars more may be lost, as "margin": 25, or count '
                'from zero with "reset_limits": true.'
            )
        stood = self.switch.release(
            reason, _BY, WallClock().now(), named=asked.halt, margin=margin, reset=asked.reset_limits
        )
        return {"was": None if stood is None else stood.sentence()}

    async def _status(self, _: CommandRequest) -> Json:
        """Account, positions, halt, signals and health, from local state: no cycle waits for a reader."""
        remarks, halted = list(self.pulse.remarks()), self.switch.read()
        return {
            "stage": self.pulse.stage,
            "account": plain(await self.pulse.account()),
            "halted": None if halted is None else plain(halted),
            "health": {"well": not remarks, "complaints": remarks},
            "signals": self._standing(),
        }

    async def _limits(self, _: CommandRequest) -> Json:
        """Risk limits and present exposure."""
        return {"limits": self.config.risk.model_dump(mode="json"), "at_risk_micro_dollars": self.pulse.at_risk()}

    async def _config(self, _: CommandRequest) -> Json:
        """The configuration of the run. It names files of secrets; those in its URLs are hidden."""
        found: Json = public_values(self.config)
        return found

    def _standing(self) -> Json:
        return plain(self.inhibitor.standing(self.clock.now()))


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "json_invalid" or (not where and first["type"].endswith("_type")):
        return "A command is a JSON object."
    return f"{where} is wrong: {first['msg'].removeprefix('Value error, ')}."
