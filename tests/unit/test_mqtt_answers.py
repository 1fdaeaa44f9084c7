"""Answers to commands over MQTT: which are given from memory, and that a halt never is."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

pytest.importorskip("aiomqtt", reason="the extra `service` is not installed")

from aiomqtt import Message
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agent.service.mqtt import Broker, Link
from agent.service.outbox import Outbox
from storage.canonical import Json
from tests.values import pulse


def asked(name: str, payload: bytes = b"{}", *, mark: bytes = b"1", reply: str = "replies/a") -> Message:
    said = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    said.CorrelationData, said.ResponseTopic = mark, reply
    return Message(f"edgeclaw/edgeclaw/command/{name}", payload, 1, False, 1, said)


class Done:
    """Counts what was carried out."""

    def __init__(self) -> None:
        self.names: list[str] = []

    async def handle(self, name: str, payload: bytes) -> Json:
        self.names.append(name)
        return {"number": len(self.names), "said": payload.decode()}


def answers(*messages: Message) -> tuple[list[str], list[str | None]]:
    done = Done()
    broker = Broker(
        host="nowhere",
        port=1883,
        instance="edgeclaw",
        agent="a",
        username="",
        password="",
        tls=None,
        heartbeat=10.0,
        queue=10,
    )
    link = Link(broker, pulse(), cast(Outbox, None), done.handle, done.handle)

    async def all_of_them() -> list[str | None]:
        return [await link._answer(message) for message in messages]

    found: list[Any] = asyncio.run(all_of_them())
    return done.names, found


def test_the_same_command_twice_is_done_once_and_answered_alike() -> None:
    names, (first, second) = answers(asked("resume"), asked("resume"))
    assert names == ["resume"] and first == second


@pytest.mark.parametrize("name", ["halt", "pause"])
def test_a_halt_is_done_each_time(name: str) -> None:
    names, _ = answers(asked(name), asked(name))
    assert names == [name, name]


def test_a_halt_under_the_mark_of_another_command_is_done() -> None:
    names, _ = answers(asked("status"), asked("halt"))
    assert names == ["status", "halt"]


@pytest.mark.parametrize("other", [asked("resume", b'{"halt": "x"}'), asked("resume", reply="replies/b")])
def test_another_payload_or_asker_is_another_command(other: Message) -> None:
    names, (first, second) = answers(asked("resume"), other)
    assert names == ["resume", "resume"] and first != second
