"""A live run under a keeper: systemd hears over a real socket that it trades, machines read how it is, and a market
that falls silent is the end of the watchdog's food."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

pytest.importorskip("polymarket", reason="the extra `live` is not installed")
pytest.importorskip("prometheus_client", reason="the extra `service` is not installed")

from tests.running import EDGECLAW, free_port, page, until, venue

SILENCE = 3


def test_a_run_is_watched_over_from_its_start_to_its_end(tmp_path: Path) -> None:
    with venue() as (url, market):
        watched_over(url, market, tmp_path)


def watched_over(address: str, market: subprocess.Popen[str], tmp_path: Path) -> None:
    port = free_port()
    keeper = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    keeper.bind(str(tmp_path / "notify"))
    said: list[str] = []

    def heard() -> list[str]:
        while True:
            try:
                said.append(keeper.recv(4096).decode())
            except BlockingIOError:
                return said

    config = tmp_path / "config.yaml"
    config.write_text(json.dumps({"service": {"listen": f"127.0.0.1:{port}", "market_data_timeout": SILENCE}}))
    run = [*EDGECLAW, "run", "--feed", "live", "--venue", address, "--engine", "scripted", "--config", str(config)]
    asked = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "600000", "EDGECLAW_HOME": str(tmp_path)}
    with (
        (tmp_path / "out").open("w") as out,
        subprocess.Popen([*run, "--json"], env={**os.environ, **asked}, stdout=out, stderr=out) as process,
    ):
        try:
            until("systemd hears that it is ready", lambda: "READY=1" in heard())
            assert page(port, "readyz")[0] == 200 and page(port, "healthz")[0] == 200
            until("a cycle is counted", lambda: "\nedgeclaw_cycles_total 0.0" not in page(port, "metrics")[1])
            market.send_signal(signal.SIGSTOP)
            until("the silence is noticed", lambda: page(port, "healthz")[0] == 503)
            assert "No market data for" in page(port, "healthz")[1]
            heard()
            before = said.count("WATCHDOG=1")
            time.sleep(1.5)
            assert heard().count("WATCHDOG=1") == before, "it is not fed while nothing is heard"
            market.send_signal(signal.SIGCONT)
            until("all is well again", lambda: page(port, "healthz")[0] == 200)
            until("it is fed again", lambda: heard().count("WATCHDOG=1") > before)
            process.send_signal(signal.SIGTERM)
            assert process.wait(120) == 130
        finally:
            process.kill()
    assert heard()[-1] == "STOPPING=1"
    keeper.close()
