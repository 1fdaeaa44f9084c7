"""Addresses that are listened on, and who is answered there."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config.load import load_config
from agent.host.egress import confined
from agent.host.listening import ListenAddress, bound, host_names, knows_host, listen_address
from market.errors import Misconfigured, NotReady
from tests.values import pulse as pulse_with

ANY = ("0.0.0.0", "::")  # noqa: S104
NONSENSE = (
    "nowhere", "8765", ":8765", "127.0.0.1", "127.0.0.1:", "::1", "::1:8765", "[::1]", "[::1]:", "[localhost]:8765",
    "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:1_0", "127.0.0.1:٣", "http://127.0.0.1:8765", "a b:80", "[]:1",
    "me@x:1", " 127.0.0.1:80", "127.0.0.1:80\n",
)  # fmt: skip


@pytest.mark.parametrize("text", NONSENSE)
def test_what_is_no_address_is_refused_in_one_sentence_where_it_is_written(text: str) -> None:
    with pytest.raises(Misconfigured, match="is not an address to listen on") as said:
        listen_address(text)
    assert "127.0.0.1:8765" in said.value.sentence()
    for key in ("service.listen", "service.review"):
        with pytest.raises(Misconfigured, match=f"'{key}' is wrong: should be HOST:PORT"):
            load_config(None, {key: text})


@given(
    st.one_of(st.ip_addresses().map(str), st.from_regex(r"[a-z][a-z0-9.-]{0,30}", fullmatch=True)),
    st.integers(0, 65_535),
)
def test_an_address_reads_as_it_is_written(host: str, port: int) -> None:
    address = ListenAddress(host, port)
    assert listen_address(str(address)) == address


@pytest.mark.parametrize("host", [*ANY, "::1", "127.0.0.1", "127.0.0.2", "localhost", "LocalHost"])
def test_any_address_of_this_machine_can_be_listened_on(host: str) -> None:
    with confined([]), bound(ListenAddress(host, 0), "service.review") as made:
        assert made.getsockname()[1] > 0


def test_this_machines_own_name_needs_no_place_among_the_hosts_that_may_be_spoken_to() -> None:
    name = socket.gethostname()
    try:
        socket.getaddrinfo(name, None)
    except OSError:
        pytest.skip("this machine's name resolves to nothing")
    with confined([]), bound(ListenAddress(name, 0), "service.review") as made:
        assert knows_host(f"{name}:80", host_names(ListenAddress(name, 0), made))


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "no.such.name.invalid", "a" * 70, "..", "*"])
def test_an_address_that_is_not_here_is_refused_in_one_sentence(host: str) -> None:
    with pytest.raises(NotReady, match="cannot be listened on") as said:
        bound(ListenAddress(host, 0), "service.review")
    assert said.value.sentence().endswith("Choose another service.review.")


def test_a_port_that_is_taken_is_refused_before_anything_is_served() -> None:
    with bound(ListenAddress("127.0.0.1", 0), "--listen") as first, pytest.raises(NotReady, match="in use"):
        bound(ListenAddress("127.0.0.1", first.getsockname()[1]), "--listen")


HERE = (
    "127.0.0.1",
    "127.0.0.1:9464",
    "localhost",
    "LOCALHOST:1",
    "localhost.:80",
    "[::1]",
    "[::1]:9464",
    "127.8.8.8:1",
)
ELSEWHERE = (
    "", ":80", "evil.example", "evil.example:9464", "127.0.0.1.evil.example", "localhost.evil.example", "[evil]:1",
    "127.0.0.1@evil.example", "evil.example:80:127.0.0.1", "::1", "[::1", "127.0.0.1:80 evil", "0x7f.1", "2130706433",
)  # fmt: skip
ADDRESSES = ("192.0.2.7", "192.0.2.7:9464", "[2001:db8::7]:80")


def names_at(host: str) -> frozenset[str]:
    with bound(ListenAddress(host, 0), "service.listen") as made:
        return host_names(ListenAddress(host, 0), made)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_at_loopback_only_loopback_is_answered(host: str) -> None:
    names = names_at(host)
    assert all(knows_host(said, names) for said in HERE)
    assert not any(knows_host(said, names) for said in (*ELSEWHERE, *ADDRESSES, ANY[0]))


@pytest.mark.parametrize("host", ANY)
def test_at_all_addresses_addresses_and_this_machines_name_are_answered(host: str) -> None:
    names = names_at(host)
    assert all(knows_host(said, names) for said in (*HERE, *ADDRESSES, f"{socket.gethostname()}:9464"))
    assert not any(knows_host(said, names) for said in ELSEWHERE)


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0", "localhost:0"])
def test_the_pages_of_a_run_answer_nobody_who_asks_by_another_name(listen: str) -> None:
    pytest.importorskip("prometheus_client", reason="the extra `service` is not installed")
    from agent.service.metrics import Metrics
    from agent.service.web import serving

    pages = ("/metrics", "/healthz", "/readyz", "/nowhere")

    async def answers(port: int, headers: Mapping[str, str]) -> list[tuple[int, str]]:
        host = "[::1]" if "::1" in listen else "127.0.0.1"
        async with aiohttp.ClientSession() as session:
            found = []
            for page in pages:
                async with session.get(f"http://{host}:{port}{page}", headers=headers) as answer:
                    found.append((answer.status, await answer.text()))
        return found

    async def scenario() -> None:
        pulse = pulse_with()
        with confined([]):
            async with serving(listen, pulse, Metrics(pulse), str) as port:
                assert [status for status, _ in await answers(port, {})] == [200, 200, 503, 404]
                for evil in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example"):
                    said = await answers(port, {"Host": evil})
                    assert said == [(421, "This server does not go by that name.")] * len(pages)

    asyncio.run(scenario())
