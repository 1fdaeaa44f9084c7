"""No secret of a URL is shown, wherever in it the secret stands."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st
from typer.testing import CliRunner

from agent.cli import app
from agent.config.load import annotated, known_keys, load_config, public_values
from agent.config.schema import Config
from agent.service.commands import Commands
from market.clock import ManualClock
from market.errors import EdgeclawError, Misconfigured
from storage.store import open_store
from storage.urls import HIDDEN, without_secrets
from tests.fakes import START

SECRET = "hunter2-Zq7"
HOLDING = (
    f"postgresql://me:{SECRET}@db.lan:5432/log",
    f"postgresql+psycopg://me:{SECRET}/x?y#z@db.lan/log",
    f"postgresql://me:a@{SECRET}@db.lan/log",
    f"postgresql://me:with a space {SECRET}@db.lan/log",
    f"postgresql://db.lan/log?user=me&password={SECRET}&sslmode=require",
    f"sqlite+pysqlcipher://:{SECRET}@/file.db?cipher=aes",
    f"sqlite:///file.db?key={SECRET}",
    f"postgres//me:{SECRET}@db.lan",
    f"me:{SECRET}@broker.lan",
    f"http://me:{SECRET}@127.0.0.1:8000",
    f"http://{SECRET}@127.0.0.1:8000/v1",
    f"https://node.example/v3/{SECRET}",
    f"https://node.example/?apikey={SECRET}",
    f"https://node.example/?{SECRET}",
    f"https://node.example/v1#{SECRET}",
    f"WSS://node.example/{SECRET}",
    f"mqtt://me:{SECRET}@broker.lan:1883",
)
PLAIN = (
    "", "a text", "sqlite:///edgeclaw.db", "sqlite:////home/a@b/e.db?timeout=5", "sqlite:///a # b", "postgresql://db.lan/log",
    "http://127.0.0.1:8808", "http://[::1]:8000/v1", "broker.lan", "/models/a:b@c.gguf", "127.0.0.1:9464", "name@v1",
)  # fmt: skip


@pytest.mark.parametrize("url", HOLDING)
def test_no_secret_is_shown(url: str) -> None:
    shown = without_secrets(url)
    assert SECRET not in shown and HIDDEN in shown
    assert without_secrets(shown) == shown


@pytest.mark.parametrize("text", PLAIN)
def test_what_holds_none_is_shown_as_it_is(text: str) -> None:
    assert without_secrets(text) == text


@given(
    st.sampled_from(("postgresql", "mysql+pymysql", "http", "mqtt")),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=4, max_size=20),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=10),
)
def test_no_password_however_odd_is_shown(scheme: str, password: str, rest: str) -> None:
    assume("@" not in rest)
    shown = without_secrets(f"{scheme}://user:{password}@host/{rest}")
    assert shown.startswith(f"{scheme}://user:{HIDDEN}@host/"), shown


def texts(model: Any = Config) -> list[str]:
    """Every setting that holds any text."""
    values = {key: _default(key) for key in known_keys(model)}
    return [key for key, value in values.items() if value == "" or key in ("edge.model", "edge.library")]


def _default(dotted: str) -> object:
    value: object = Config()
    for part in dotted.split("."):
        value = getattr(value, part)
    return value


def told(key: str, url: str) -> list[str]:
    """All that is said about a configuration with that value: over MQTT and on the command line, or why it is none."""
    try:
        config = load_config(None, {key: url})
    except Misconfigured as refused:
        return [refused.sentence()]
    heard = asyncio.run(_commands(config).handle_command("config", b"{}"))
    return [json.dumps(public_values(config)), *annotated(config), json.dumps(heard)]


@pytest.mark.parametrize("key", texts())
def test_no_setting_shows_a_secret_where_the_configuration_is_told(key: str) -> None:
    assert {"storage.url", "venue.loopback", "edge.remote.url", "mqtt.host", "venue.rpc_file"} <= set(texts())
    for url in HOLDING:
        assert not [line for line in told(key, url) if SECRET in line]


@pytest.mark.parametrize("url", HOLDING)
def test_the_address_of_a_venue_names_accounts_and_holds_no_secret(url: str) -> None:
    with pytest.raises(Misconfigured, match=r"'venue\.loopback' is wrong: should be http://127\.0\.0\.1:PORT"):
        load_config(None, {"venue.loopback": url})
    for plain in ("", "http://127.0.0.1:8808", "http://[::1]:8808/", "http://localhost:1"):
        assert load_config(None, {"venue.loopback": plain}).venue.loopback == plain


def _commands(config: Config) -> Commands:
    unused: Any = None
    return Commands(config=config, switch=unused, pulse=unused, clock=ManualClock(START), inhibitor=unused, bus=unused)


@pytest.mark.parametrize("url", HOLDING)
def test_the_command_line_shows_none_either(tmp_path: Path, url: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump({"storage": {"url": url}, "edge": {"remote": {"url": url}}}), encoding="utf-8")
    for words in (("show",), ("show", "--json")):
        said = CliRunner().invoke(app, ["config", *words, "--config", str(file)])
        assert said.exit_code == 0 and SECRET not in said.output


@pytest.mark.parametrize("url", HOLDING)
def test_no_message_about_a_database_repeats_its_password(url: str) -> None:
    async def opened() -> None:
        async with open_store(url, read_only=True):
            pass

    with pytest.raises(EdgeclawError) as said:
        asyncio.run(opened())
    assert SECRET not in said.value.sentence()


def test_a_section_that_is_a_url_is_refused_without_its_password() -> None:
    with pytest.raises(Misconfigured, match="'storage'") as said:
        load_config(None, {"storage": f"postgresql://me:{SECRET}@db/log"})
    assert SECRET not in said.value.sentence()


@pytest.mark.parametrize("url", [u for u in HOLDING if u.lower().startswith(("http", "ws"))])
def test_no_message_about_a_model_server_repeats_its_password(url: str) -> None:
    from agent.llm.openai.address import address

    with pytest.raises(Misconfigured) as said:
        address(url)
    assert SECRET not in said.value.sentence()
