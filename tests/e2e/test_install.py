"""`edgeclaw install edge-runtime` as it is typed: refusals, dry runs, a whole MLC installation killed on the way."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from agent.install.accelerator import Probe, detect
from tests import enginewheels
from tests.e2e.conftest import Edgeclaw, command
from tests.modelhub import ModelHub, serving
from tests.unit.test_own_model import quantised

INSTALL = ("install", "edge-runtime")
CONFIG = {"quantization": "q4f16_1"}


def files(**config: object) -> dict[str, bytes]:
    """A model repository of two files."""
    return {"mlc-chat-config.json": json.dumps({**CONFIG, **config}).encode(), "params_shard_0.bin": bytes(300_000)}


@pytest.fixture
def mlc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[ModelHub, tuple[str, ...]]]:
    """A hub, and the words that install from it."""
    shelf, general = tmp_path / "shelf", tmp_path / "general"
    enginewheels.pair(shelf)
    enginewheels.needed(general)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(general))
    with serving(ModelHub(files(), frozenset({"params_shard_0.bin"}), shelf)) as hub:
        where = ("--device", "vulkan", "--index", f"{hub.base}/wheels/", "--hub", hub.base)
        yield hub, (*INSTALL, "--engine", "mlc", *where)


@pytest.mark.skipif(bool(detect(Probe()).usable), reason="this box has an accelerator")
def test_a_box_without_an_accelerator(edgeclaw: Edgeclaw, home: Path) -> None:
    for more in ((), ("--dry-run",)):
        ran = edgeclaw(*INSTALL, "--engine", "mlc", *more)
        assert ran.code == 3 and ran.err.count("\n") == 1 and "--engine llamacpp" in ran.err
    assert not home.exists()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--engine", "vllm"), ("vllm", "auto, llamacpp, openvino, mlc")),
        (("--engine", "mlc", "--device", "cpu"), ("cpu", "--engine llamacpp")),
        (("--engine", "mlc", "--device", "cuda", "--model", "gpt-9"), ("gpt-9", "llama3.2-3b")),
        (("--engine", "mlc", "--device", "cuda", "--pin", "1"), ("--pin",)),
        (("--engine", "mlc", "--device", "cuda", "--offline", "/no/such"), ("/no/such",)),
        (("--engine", "mlc", "--sha256", "0"), ("--sha256",)),
        (("--device", "cuda"), ("--device", "auto")),
        (("--model", "/no/such.gguf"), ("/no/such.gguf",)),
        (("--model", "smollm2-135m", "--sha256", "0"), ("SHA-256",)),
    ],
)
def test_mistakes_are_one_sentence(args: tuple[str, ...], words: tuple[str, ...], edgeclaw: Edgeclaw) -> None:
    ran = edgeclaw(*INSTALL, *args)
    assert ran.code == 2 and ran.err.count("\n") == 1, ran.err
    for word in words:
        assert word in ran.err


def test_the_whole_of_it(mlc: tuple[ModelHub, tuple[str, ...]], edgeclaw: Edgeclaw, home: Path, tmp_path: Path) -> None:
    hub, words = mlc
    own, lock = tmp_path / "mine.yaml", tmp_path / "lock.json"
    own.write_text("risk: {order: 5}\n")
    words = (*words, "--write-config", str(own), "--lock", str(lock), "--json")
    planned = edgeclaw(*words, "--dry-run")
    assert planned.code == 0 and not home.exists() and not lock.exists() and hub.seen == []
    assert [line["done"] for line in planned.json] == [True, *[False] * 9]
    ran = edgeclaw(*words)
    assert ran.code == 0, ran.err
    assert all(line["done"] for line in ran.json)
    tree = yaml.safe_load(own.read_text())
    assert tree["risk"] == {"order": 5} and tree["edge"]["runtime"] == "mlc"
    assert Path(tree["edge"]["mlc"]["model_lib"]).is_file() and set(json.loads(lock.read_text())["models"])
    shown = edgeclaw(*(word for word in words if word != "--json"))
    assert shown.code == 0 and str(own) in shown.out.replace("\n", "") and "100%" in shown.out


def until(true: Callable[[], bool], seconds: float = 120.0) -> bool:
    for _ in range(int(seconds / 0.1)):
        if true():
            return True
        time.sleep(0.1)
    return False


def test_killed_while_fetching_and_while_compiling_it_goes_on(
    mlc: tuple[ModelHub, tuple[str, ...]], edgeclaw: Edgeclaw, home: Path
) -> None:
    hub, words = mlc
    hub.files.update(files(slow=True))
    hub.faults["params_shard_0.bin"] = ["stall:200000"]
    root = home / "mlc" / "llama3.2-3b"
    part, begun = root / "model" / "params_shard_0.bin.part", root / "new-vulkan.so.begun"

    def killed_when(true: Callable[[], bool]) -> None:
        line, env = command(home, *words)
        started = subprocess.Popen(line, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            assert until(lambda: true() or started.poll() is not None) and started.poll() is None
        finally:
            started.send_signal(signal.SIGKILL)
            started.wait(60)

    killed_when(lambda: part.exists() and part.stat().st_size == 200_000)
    hub.seen.clear()
    killed_when(begun.exists)
    assert [asked for path, asked in hub.seen if path.endswith("shard_0.bin")] == ["bytes=200000-"]
    assert not [path for path, _ in hub.seen if path.startswith("/wheels")], "the wheels were there already"
    compiler = int(begun.read_text())
    assert until(lambda: not Path(f"/proc/{compiler}/cmdline").exists(), 10), "no compiler is left behind"
    assert not (root / "install.json").exists()
    (root / "model" / "mlc-chat-config.json").write_bytes(files()["mlc-chat-config.json"])
    lock = home / "mlc" / "lock.json"
    lock.write_text(json.dumps({**json.loads(lock.read_text()), "models": {}}))
    hub.files.update(files())
    assert edgeclaw(*words).code == 0
    assert (root / "install.json").exists() and (root / "golden.json").exists()


@pytest.mark.model
def test_a_gguf_file_of_ones_own(edgeclaw: Edgeclaw, home: Path, tmp_path: Path) -> None:
    path = quantised(tmp_path / "own.gguf")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    wrong = edgeclaw(*INSTALL, "--model", str(path), "--sha256", "0" * 64)
    assert wrong.code == 3 and sha256 in wrong.err and wrong.err.count("\n") == 1
    planned = edgeclaw(*INSTALL, "--model", str(path), "--sha256", sha256, "--dry-run", "--json").json
    assert sha256 in planned[1]["does"] and [path.name for path in tmp_path.glob("own*")] == ["own.gguf"]
    ran = edgeclaw(*INSTALL, "--model", str(path), "--sha256", sha256)
    assert ran.code == 0 and f"edgeclaw run --model {path}" in ran.out.replace("\n", "")
    assert edgeclaw(*INSTALL, "--model", str(path), "--sha256", sha256, "--dry-run", "--json").json[1]["done"] is True
