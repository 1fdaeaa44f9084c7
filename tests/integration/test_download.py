"""Files over real HTTP from a server that truncates, stalls, lies and redirects; what arrives is whole or refused."""

from __future__ import annotations

import hashlib
import random
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.install.download import DownloadPolicy, loopback
from agent.install.hub import Hub
from market.errors import DataInvalid, NotReady
from tests.modelhub import COMMIT, ModelHub, serving

CONTENT = random.Random(7).randbytes(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
SMALL = {"mlc-chat-config.json": b'{"quantization": "q4f16_1"}', ".gitattributes": b"*", "extra/a b.json": b"{}"}


@pytest.fixture
def hub() -> Iterator[ModelHub]:
    with serving(ModelHub({"shard.bin": CONTENT, **SMALL}, frozenset({"shard.bin"}))) as running:
        yield running


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def fetch(hub: ModelHub, tmp_path: Path, pauses: list[float]) -> Callable[..., Path]:
    def call(*faults: str, sha256: str = SHA256, size: int = len(CONTENT), timeout: float = 5.0) -> Path:
        hub.faults["shard.bin"] = list(faults)
        target = tmp_path / "shard.bin"
        url = Hub(hub.base).file_url("o/n", COMMIT, "shard.bin")
        wire = DownloadPolicy(timeout=timeout, tries=4, pause=pauses.append)
        wire.fetch(url, target, size, sha256, lambda _: None)
        return target

    return call


def ranges(hub: ModelHub) -> list[str]:
    return [asked for path, asked in hub.seen if path.endswith("shard.bin")]


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_truncated_file_is_resumed_where_it_stopped(
    fetch: Callable[..., Path], hub: ModelHub, pauses: list[float]
) -> None:
    assert fetch("cut:1000000", "503", "cut:500000").read_bytes() == CONTENT
    assert ranges(hub) == ["", "bytes=1000000-", "bytes=1000000-", "bytes=1500000-"]
    assert pauses == [2.0, 4.0, 2.0], "a try that brought something starts the count again"


def test_a_file_is_resumed_by_the_next_process(
    fetch: Callable[..., Path], hub: ModelHub, tmp_path: Path, pauses: list[float]
) -> None:
    with pytest.raises(NotReady, match="goes on") as failed:
        raise_sentence(lambda: fetch("cut:2000000", "503", "503", "503"))
    assert "503" in str(failed.value) and left(tmp_path) == ["shard.bin.part"]
    hub.seen.clear()
    assert fetch().read_bytes() == CONTENT
    assert ranges(hub) == ["bytes=2000000-"] and left(tmp_path) == ["shard.bin"]


def raise_sentence(call: Callable[[], object]) -> None:
    try:
        call()
    except NotReady as error:
        raise NotReady(error.sentence()) from error


def test_a_server_that_falls_silent_is_asked_again(fetch: Callable[..., Path], hub: ModelHub) -> None:
    assert fetch("stall:700000", timeout=0.3).read_bytes() == CONTENT
    assert ranges(hub) == ["", "bytes=700000-"]


def test_a_server_without_ranges_sends_the_whole_again(fetch: Callable[..., Path], hub: ModelHub) -> None:
    assert fetch("cut:900000", "whole").read_bytes() == CONTENT
    assert ranges(hub) == ["", "bytes=900000-"]


def test_wrong_bytes_are_refused_and_removed(fetch: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(DataInvalid, match="its hash differs"):
        fetch("wrong")
    assert left(tmp_path) == []
    with pytest.raises(DataInvalid, match="its hash differs"):
        fetch(sha256="0" * 64)
    assert left(tmp_path) == []


@pytest.mark.parametrize("old", [b"something else", CONTENT[:-1] + b"?", CONTENT + b"more"])
def test_a_wrong_beginning_costs_one_more_fetch(fetch: Callable[..., Path], tmp_path: Path, old: bytes) -> None:
    (tmp_path / "shard.bin.part").write_bytes(old)
    assert fetch().read_bytes() == CONTENT


def test_a_part_that_is_whole_is_not_fetched_again(fetch: Callable[..., Path], hub: ModelHub, tmp_path: Path) -> None:
    (tmp_path / "shard.bin.part").write_bytes(CONTENT)
    assert fetch().read_bytes() == CONTENT and ranges(hub) == []


def test_sizes_have_to_agree(fetch: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(DataInvalid, match="larger than"):
        fetch("more")
    (tmp_path / "shard.bin.part").write_bytes(CONTENT[:1000])
    with pytest.raises(DataInvalid, match="larger than"):  # once as a range, then once from zero
        fetch(size=len(CONTENT) - 1)
    assert left(tmp_path) == []


def test_patience_is_asked_for_and_ends(fetch: Callable[..., Path], pauses: list[float], tmp_path: Path) -> None:
    assert fetch("429:7", "503:9999", "500").read_bytes() == CONTENT
    assert pauses == [7.0, 60.0, 8.0]
    (tmp_path / "shard.bin").unlink()
    with pytest.raises(NotReady, match="429"):
        fetch("429", "429", "429", "429")
    for refused in ("404", "401", "403", "410"):
        pauses.clear()
        with pytest.raises(NotReady, match=refused):
            fetch(refused)
        assert pauses == []


def test_redirects_lead_only_to_safe_addresses(fetch: Callable[..., Path], hub: ModelHub, tmp_path: Path) -> None:
    other = f"{hub.base}/o/n/resolve/{COMMIT}/shard.bin"
    assert fetch(f"redirect:{other}").read_bytes() == CONTENT
    (tmp_path / "shard.bin").unlink()
    (tmp_path / "shard.bin.part").write_bytes(CONTENT[:100])
    assert fetch(f"redirect:{other}").read_bytes() == CONTENT, "the range goes along"
    assert ranges(hub)[-1] == "bytes=100-"
    (tmp_path / "shard.bin").unlink()
    for unsafe in ("http://192.0.2.1/x", "file:///etc/passwd", "ftp://192.0.2.1/x"):
        with pytest.raises(NotReady):
            fetch(f"redirect:{unsafe}")
    with pytest.raises(NotReady, match="could not be fetched"):
        fetch(*[f"redirect:{other}"] * 20)


def test_addresses_in_the_clear_are_refused_but_on_this_machine(tmp_path: Path) -> None:
    for url, inside in (
        ("http://127.0.0.1:1/x", True),
        ("http://localhost/x", True),
        ("http://127.0.0.1.example.org/x", False),
        ("http://127.0.0.1@example.org/x", False),
        ("https://127.0.0.1/x", False),
    ):
        assert loopback(url) is inside
    with pytest.raises(NotReady, match="not a safe address"):
        DownloadPolicy().fetch("http://192.0.2.1/x", tmp_path / "x", 1, SHA256, lambda _: None)
    assert left(tmp_path) == [] or left(tmp_path) == ["x.part"]


def test_nobody_listening_is_one_sentence(tmp_path: Path, pauses: list[float]) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # held, and not listening
        url = f"http://127.0.0.1:{held.getsockname()[1]}/x"
        with pytest.raises(NotReady, match="no connection"):
            DownloadPolicy(tries=2, pause=pauses.append).read(url, 10)
    assert len(pauses) == 1


@pytest.mark.parametrize("page", [1, 2, 1000])
def test_a_listing_is_read_to_its_end(hub: ModelHub, page: int) -> None:
    hub.page = page
    client = Hub(hub.base)
    assert client.commit("o/n", "main") == COMMIT
    files = {file.path: file for file in client.files("o/n", COMMIT)}
    assert sorted(files) == ["extra/a b.json", "mlc-chat-config.json", "shard.bin"]
    assert (files["shard.bin"].sha256, files["shard.bin"].size) == (SHA256, len(CONTENT))
    config = files["mlc-chat-config.json"]
    assert config.sha256 == "" and client.small("o/n", COMMIT, config) == SMALL["mlc-chat-config.json"]
    assert client.small("o/n", COMMIT, files["extra/a b.json"]) == b"{}"
    hub.faults[config.path] = ["cut:5", "503"]
    pauses: list[float] = []
    patient = Hub(hub.base, DownloadPolicy(pause=pauses.append))
    assert patient.small("o/n", COMMIT, config) == SMALL["mlc-chat-config.json"] and pauses == [2.0, 4.0]
    hub.faults[config.path] = ["wrong"]
    with pytest.raises(DataInvalid, match="its hash differs"):
        client.small("o/n", COMMIT, config)


@pytest.mark.parametrize("path", ["../up", "/abs", "a/../../b", ""])
def test_a_listing_that_leads_elsewhere_is_refused(hub: ModelHub, path: str) -> None:
    hub.files[path] = b"x"
    with pytest.raises(DataInvalid, match="cannot be read"):
        Hub(hub.base).files("o/n", COMMIT)
