"""The live run as its owner starts it, against a loopback venue in a process of its own: money, restarts, the kill
switch, and that the key shows nowhere."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("polymarket", reason="the extra `live` is not installed")

from agent.live.keys import play_key
from market.polymarket.hosts import Hosts
from tests.running import Agent, until
from tests.storm import Storm, ask, compared, faults
from tests.thousand_markets import soak
from tests.week import week
from tools.halts import KillSwitch
from tools.polymarket.client import SigningAccount, credentials_of

SPEED = 60
EDGECLAW = [sys.executable, "-m", "agent"]
TRADERS = ["--trade-with", "join_best", "--trade-with", "late_favourite"]


@pytest.fixture(scope="module")
def venue() -> Iterator[str]:
    """The address of a venue whose clock runs fast."""
    serve = [*EDGECLAW, "venue", "serve", "--port", "0", "--speed", str(SPEED), "--json"]
    with subprocess.Popen(serve, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["url"]
        process.terminate()


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "EDGECLAW_HOME": str(home)}


def live(venue: str, *more: str) -> list[str]:
    return [*EDGECLAW, "run", "--mode", "live", "--venue", venue, "--engine", "scripted", *TRADERS, *more]


def edgeclaw(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*EDGECLAW, *words], env=environment(home), capture_output=True, text=True, check=False, timeout=300
    )


@contextmanager
def running(venue: str, home: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    """A live run that goes on until it is told to end."""
    with (
        (home / "out").open("w") as out,
        subprocess.Popen(live(venue, *more), env=environment(home), stdout=out, stderr=out, text=True) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def orders(venue: str, home: Path) -> list[dict[str, Any]]:
    wallet = SigningAccount.of(play_key(home / "play.key").signer()).wallet
    placed: list[dict[str, Any]] = ask(f"{venue}/venue/orders/{wallet}")
    return placed


def resting(venue: str, home: Path) -> int:
    return sum(1 for o in orders(venue, home) if o["status"] in ("LIVE", "DELAYED"))


def sums(venue: str, home: Path) -> dict[str, Any]:
    return dict(asyncio.run(compared(Storm(venue, home, random.Random(0)))))


NOTHING_LOST = {
    "orders_unknown_to_the_log": 0,
    "intents_without_an_end": 0,
    "keys_used_twice": 0,
    "bound_at_venue": {},
    "damage_in_the_log": [],
}


def agree(found: dict[str, Any]) -> None:
    assert {name: found[name] for name in NOTHING_LOST} == NOTHING_LOST
    assert found["cash_here"] == found["cash_at_venue"]


def test_a_run_ends_with_equal_books_and_the_next_goes_on_from_there(venue: str, tmp_path: Path) -> None:
    for number in (1, 2):
        done = subprocess.run(
            live(venue, "--cycles", "2", "--json"),
            env=environment(tmp_path), capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        found = sums(venue, tmp_path)
        agree(found)
        assert found["runs"] == number
        assert found["orders_at_venue"] > 0
    told = json.loads(edgeclaw(tmp_path, "status", "--json").stdout)
    (account,) = told["accounts"]
    assert account["cash"] == found["cash_here"]
    assert account["working"] == 0
    assert told["halted"] is None


def test_paper_at_the_market_as_it_is_now_fills_on_evidence_and_sends_nothing(venue: str, tmp_path: Path) -> None:
    before = ask(f"{venue}/venue/state")["orders"]
    paper = [*EDGECLAW, "run", "--feed", "live", "--venue", venue, "--engine", "scripted", *TRADERS]
    for number in (1, 2):
        done = subprocess.run(
            [*paper, "--cycles", "2", "--json"],
            env=environment(tmp_path), capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        (line,) = json.loads(done.stdout)["traders"]
        assert line["orders"] > 0, number
        assert all(m["evidence"] in ("book_cross", "trade_through") for m in line["money"])
    assert ask(f"{venue}/venue/state")["orders"] == before
    assert not (tmp_path / "play.key").exists(), "paper needs no key"
    (account,) = json.loads(edgeclaw(tmp_path, "status", "--json").stdout)["accounts"]
    assert account["account"].startswith("paper at ")
    assert account["working"] == 0


def test_halting_takes_every_order_back_and_outlives_the_process(venue: str, tmp_path: Path) -> None:
    agent = Agent(venue, tmp_path / "home")

    def until_slots_pass(count: int = 2) -> None:
        """Wait for whole slots, however long they take: what is not done is not done in them."""
        slots = len(agent.happened("cycle/started"))
        until("slots pass", lambda: len(agent.happened("cycle/started")) >= slots + count)

    with agent.running() as process:
        until("an order rests", lambda: resting(venue, agent.home) > 0)
        halted = agent.call("halt", "--reason", "a look at the books", "--json")
        assert halted.returncode == 0, halted.stderr
        until("nothing rests", lambda: resting(venue, agent.home) == 0)
        before = len(orders(venue, agent.home))
        until_slots_pass()
        assert len(orders(venue, agent.home)) == before, "it went on ordering"
        assert process.poll() is None, "it goes on settling"
        assert agent.call("status").returncode == 4
        process.kill()
    with agent.running() as process:
        until_slots_pass()
        assert process.poll() is None, agent.said()
        assert len(orders(venue, agent.home)) == before, "it ordered after the restart"
        assert agent.call("resume", "--reason", "looked").returncode == 0
        until("it orders again", lambda: len(orders(venue, agent.home)) > before)
        process.send_signal(signal.SIGUSR1)
        until("nothing rests", lambda: resting(venue, agent.home) == 0)
        assert agent.call("resume", "--reason", "looked again").returncode == 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 130
    assert resting(venue, agent.home) == 0


def test_winnings_that_the_venue_does_not_pay_are_redeemed(tmp_path: Path) -> None:
    serve = [*EDGECLAW, "venue", "serve", "--port", "0", "--speed", "100", "--no-auto-redeem", "--json"]
    key = play_key(tmp_path / "play.key")
    relayer = tmp_path / "relayer.json"
    relayer.write_text(json.dumps({"address": key.address, "key": "a-relayer-key"}))
    relayer.chmod(0o600)
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps({"venue": {"relayer_key_file": str(relayer)}}))
    with subprocess.Popen(serve, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())["url"]
        try:
            done = subprocess.run(
                live(address, "--cycles", "3", "--json", "--config", str(config)),
                env=environment(tmp_path), capture_output=True, text=True, check=False, timeout=300,
            )  # fmt: skip
            found = sums(address, tmp_path)
        finally:
            process.terminate()
    assert done.returncode == 0, done.stderr[-2000:]
    assert found["settlements"] > 0
    agree(found)


def spellings(raw: bytes) -> list[bytes]:
    """Spellings of a secret in a file."""
    text = raw.hex()
    return [raw, text.encode(), text.upper().encode(), base64.b64encode(raw), str(int.from_bytes(raw, "big")).encode()]


def test_the_key_and_what_is_made_of_it_show_nowhere(venue: str, tmp_path: Path) -> None:
    """Logs, database, events, screens, configuration, command line and environment of the process."""
    canary = bytes.fromhex("c0ffee5eed" * 6 + "0badcafe"[:4])
    file = tmp_path / "elsewhere" / "key"
    file.parent.mkdir()
    file.write_text(canary.hex())
    file.chmod(0o600)
    config = tmp_path / "config.yaml"
    config.write_text(f"venue:\n  key_file: {file}\n  loopback: {venue}\n")
    home = tmp_path / "home"
    home.mkdir()
    events = home / "events.jsonl"
    more = ["--key-file", str(file), "--output", str(events), "--config", str(config)]
    seen: list[bytes] = []
    with running(venue, home, *more) as process:
        until("an order was answered", lambda: events.is_file() and b"order/placed" in events.read_bytes())
        place = Path(f"/proc/{process.pid}")
        seen += [(place / "environ").read_bytes(), (place / "cmdline").read_bytes()]
        process.send_signal(signal.SIGTERM)
        process.wait(120)
    for words in (
        ("config", "show", "--config", str(config)),
        ("config", "show", "--config", str(config), "--json"),
        ("wallet", "status", "--config", str(config)),
        ("wallet", "livetest", "--config", str(config)),
        ("status", "--json"),
        ("log", "list", "--runs", "--json"),
        ("doctor", "--config", str(config)),
    ):
        told = edgeclaw(home, *words)
        seen.append((told.stdout + told.stderr).encode())
    seen += [path.read_bytes() for path in home.rglob("*") if path.is_file()]
    assert sum(map(len, seen)) > 100_000
    hosts, secret = Hosts.loopback(venue), play_key(file)
    from agent.live.preflight import venue_clock

    async def credentials() -> list[bytes]:
        known = await credentials_of(hosts, secret.signer(), await venue_clock(hosts))
        return [known.secret.encode(), known.passphrase.encode()]

    for form in [*spellings(canary), *asyncio.run(credentials())]:
        assert not [n for n, text in enumerate(seen) if form in text]


def test_a_key_that_is_wrong_is_not_repeated(tmp_path: Path) -> None:
    wrong = "c0ffee5eed" * 6
    file = tmp_path / "key"
    for text in (wrong, wrong + "zzzz", "0" * 64, "f" * 64):
        file.write_text(text)
        file.chmod(0o600)
        done = edgeclaw(tmp_path, "run", "--mode", "live", "--venue", "http://127.0.0.1:9", "--key-file", str(file))
        assert done.returncode == 2, done.stderr
        assert text[:10] not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr


def test_real_money_is_not_traded_before_paper_has_earned_it(tmp_path: Path) -> None:
    """And nothing is asked of the venue before that."""
    file = tmp_path / "key"
    file.write_text("11" * 32)
    file.chmod(0o600)
    done = edgeclaw(tmp_path, "run", "--mode", "live", "--engine", "scripted", "--key-file", str(file))
    assert done.returncode == 3
    assert "no paper day of the 14" in done.stderr
    assert "--i-accept-the-risk" in done.stderr


def test_a_short_storm_loses_nothing(tmp_path: Path) -> None:
    found: dict[str, Any] = faults(5, 11, SPEED, tmp_path)
    assert (found["kills"], found["last_exit"], found["halted"]) == (5, 0, "")
    agree(found)


@pytest.mark.soak
def test_a_long_storm_loses_nothing(tmp_path: Path) -> None:
    found: dict[str, Any] = faults(200, 7, SPEED, tmp_path)
    sys.stdout.write(json.dumps(found) + "\n")
    assert (found["kills"], found["last_exit"], found["halted"]) == (200, 0, "")
    assert found["orders_at_venue"] > 100
    agree(found)


@pytest.mark.soak
def test_a_hundred_windows_at_a_hundred_times_the_pace_balance_to_the_micro_unit(tmp_path: Path) -> None:
    serve = [*EDGECLAW, "venue", "serve", "--port", "0", "--speed", "100", "--json"]
    limits = dict.fromkeys(("market_exposure", "total_exposure", "loss", "daily_loss", "drawdown"), "1000000")
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps({"risk": limits}))
    with subprocess.Popen(serve, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())["url"]
        try:
            done = subprocess.run(
                live(address, "--cycles", "100", "--json", "--config", str(config)),
                env=environment(tmp_path), capture_output=True, text=True, check=False, timeout=900,
            )  # fmt: skip
            found = sums(address, tmp_path)
        finally:
            process.terminate()
    sys.stdout.write(json.dumps(found) + "\n")
    assert done.returncode == 0, done.stderr[-2000:]
    agree(found)
    assert min(found[n] for n in ("orders_at_venue", "filled_in_part", "cancelled", "fills", "settlements")) > 0


def test_a_live_start_refuses_a_log_of_which_one_byte_has_changed_and_goes_on_once_it_is_as_it_was(
    venue: str, tmp_path: Path
) -> None:
    agent = Agent(venue, tmp_path / "home", ("agent",))
    for _ in range(2):
        code, said = agent.ended("--cycles", "1")
        assert code == 0, said
    with closing(sqlite3.connect(agent.home / "edgeclaw.db")) as connection:
        run, seq, kind, key, body = connection.execute(
            "SELECT run_id, seq, kind, key, body FROM records JOIN runs ON runs.id = run_id "
            "ORDER BY started_at DESC, seq DESC LIMIT 1 OFFSET 1"
        ).fetchone()
        assert connection.execute("SELECT count(*) FROM chain_marks").fetchone() == (1,), "the first run was verified"
        change, where = "UPDATE records SET body = ? WHERE run_id = ? AND seq = ?", (run, seq)
        with connection:
            connection.execute(change, (body[:-3] + chr(ord(body[-3]) ^ 1) + body[-2:], *where))
        code, said = agent.ended("--cycles", "1")
        assert code == 4 and "Traceback" not in said
        said = " ".join(said.split())
        assert (
            f"Record {seq} of run {run} ({kind} {key}) does not match its hash" in said
            and "edgeclaw log verify" in said
        )
        thrown = KillSwitch(agent.home).read()
        assert thrown is not None and "The log is damaged" in thrown.reason
        assert agent.call("log", "verify").returncode == 1
        with connection:
            connection.execute(change, (body, *where))
    assert agent.ended("--cycles", "1")[0] == 4, "the halt stands"
    assert agent.call("resume", "--reason", "put back").returncode == 0
    code, said = agent.ended("--cycles", "1")
    assert code == 0, said


@pytest.mark.soak
def test_a_thousand_markets_among_all_faults_agree_with_the_venue_at_every_slot(tmp_path: Path) -> None:
    found = soak(1000, 7, SPEED, tmp_path)
    sys.stdout.write(json.dumps(found) + "\n")
    assert found["markets"] >= 1000
    assert (found["last_exit"], found["holdings"]) == (0, {})
    assert found["cash_here"] == found["cash_at_venue"]
    assert found["compared"] > 100
    assert found["agreed"] > 0.9 * found["compared"]
    assert found["log_and_metrics_agree"]
    assert found["waits_without_a_sentence"] == []


@pytest.mark.soak
def test_a_week_with_late_payouts_asks_once_for_the_passphrase_and_never_blocks(tmp_path: Path) -> None:
    found = week(7.0, tmp_path)
    sys.stdout.write(json.dumps(found) + "\n")
    assert (found["passphrases_asked"], found["allow_lists"], found["exit"]) == (1, 1, 130)
    assert found["redeemed"] > 0
    assert found["longest_block_ms"] <= 250
