"""A GGUF file that its owner brings: weights of any type, checked by header and hash, trusted by its note."""

from __future__ import annotations

import asyncio
import hashlib
import os
import struct
from pathlib import Path

import pytest

from agent.app.engines import open_engine
from agent.config.load import load_config
from agent.install import KNOWN_MODELS, OWNERS_MODELS, execute, model_file, model_path, plan
from agent.install.own import CheckOwnModel
from agent.llm import gguf
from agent.llm.llamacpp.engine import file_hash
from market.errors import DataInvalid, Misconfigured, NotReady
from tests import engines
from tests.unit.test_gguf import number, text

Q4_K, Q6_K, F32, FUTURE = 12, 14, 0, 250


def quantised(path: Path, *, version: int = 3, kind: int = Q4_K, cut: int = 0, architecture: bytes = b"") -> Path:
    """A file as llama.cpp's quantiser writes it: K-quants of 256 weights a block."""
    pairs = [
        architecture or text("general.architecture") + struct.pack("<I", 8) + text("llama"),
        text("general.name") + struct.pack("<I", 8) + text("Tiny"),
        number("general.file_type", 15),
    ]
    sizes = {Q4_K: 144, Q6_K: 210, F32: 4 * 256, FUTURE: 99}
    header, data = b"", b""
    for name, type_ in (("token_embd", Q6_K), ("blk.0.attn_q", kind), ("norm", F32)):
        header += text(name) + struct.pack("<I2QIQ", 2, 256, 2, type_, len(data))
        data += bytes(sizes[type_] * 2)
        data += bytes(-len(data) % 32)
    head = b"GGUF" + struct.pack("<IQQ", version, 3, len(pairs)) + b"".join(pairs) + header
    whole = head + bytes(-len(head) % 32) + data
    path.write_bytes(whole[: len(whole) - cut])
    return path


@pytest.mark.parametrize(("version", "kind"), [(3, Q4_K), (2, Q6_K), (3, FUTURE)])
def test_a_header_is_read_whatever_the_weights_are(tmp_path: Path, version: int, kind: int) -> None:
    assert gguf.header(quantised(tmp_path / "a.gguf", version=version, kind=kind)) == gguf.Header("llama", "Tiny", 3)


def test_no_header_is_believed_of_a_file_that_is_not_whole(tmp_path: Path) -> None:
    whole = quantised(tmp_path / "a.gguf").read_bytes()
    for size in (0, 3, 20, 100, len(whole) - 40):
        (tmp_path / "cut.gguf").write_bytes(whole[:size])
        with pytest.raises(DataInvalid):
            gguf.header(tmp_path / "cut.gguf")
    for bad in (b"GGML" + whole[4:], whole[:4] + struct.pack("<I", 4) + whole[8:]):
        (tmp_path / "bad.gguf").write_bytes(bad)
        with pytest.raises(DataInvalid, match="version 2 or 3"):
            gguf.header(tmp_path / "bad.gguf")
    quantised(tmp_path / "odd.gguf", architecture=number("general.architecture", 1))
    with pytest.raises(DataInvalid, match="architecture"):
        gguf.header(tmp_path / "odd.gguf")


def test_the_note_lets_later_starts_trust_the_file(tmp_path: Path) -> None:
    path = quantised(tmp_path / "own.gguf")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    shares: list[float] = []
    step = CheckOwnModel(path, sha256)
    assert not step.done()
    execute([step], lambda _, share: shares.append(share))
    assert step.done() and CheckOwnModel(path).done() and not CheckOwnModel(path, "0" * 64).done()
    assert shares == sorted(shares) and shares[-1] == 1.0
    shown = path.stat()
    path.write_bytes(bytes(shown.st_size))
    os.utime(path, ns=(shown.st_atime_ns, shown.st_mtime_ns))
    assert file_hash(path) == sha256, "size and time of change agree, so the note is believed"
    os.utime(path, ns=(shown.st_atime_ns, shown.st_mtime_ns + 1))
    assert not step.done() and file_hash(path) != sha256


def test_a_wrong_hash_is_refused_and_leaves_no_note(tmp_path: Path) -> None:
    path = quantised(tmp_path / "own.gguf")
    with pytest.raises(NotReady, match="is not the expected model") as refused:
        execute([CheckOwnModel(path, "0" * 64)])
    assert "\n" not in refused.value.sentence() and refused.value.exit_code == 3
    assert [p.name for p in tmp_path.iterdir()] == ["own.gguf"]
    (tmp_path / "text.gguf").write_text("no model")
    with pytest.raises(NotReady, match="not a whole GGUF file"):
        execute([CheckOwnModel(tmp_path / "text.gguf")])


def test_a_model_that_is_not_shipped_says_what_to_get_and_where_it_goes(tmp_path: Path) -> None:
    known = OWNERS_MODELS["llama3.2-3b"]
    path = model_path(tmp_path, "llama3.2-3b")
    with pytest.raises(NotReady, match="not shipped") as refused:
        execute(plan("llamacpp", "llama3.2-3b", tmp_path)[1:])
    for word in (known.file, known.sha256, str(path)):
        assert word in refused.value.next_step
    with pytest.raises(NotReady, match="not shipped"):
        model_file(tmp_path, "llama3.2-3b")
    path.parent.mkdir()
    quantised(path)
    with pytest.raises(NotReady, match="is not the expected model"):
        execute(plan("llamacpp", "llama3.2-3b", tmp_path)[1:])
    own = hashlib.sha256(path.read_bytes()).hexdigest()
    execute(plan("llamacpp", "llama3.2-3b", tmp_path, sha256=own.upper())[1:])
    assert model_file(tmp_path, "llama3.2-3b") == (path, known.sha256) and model_file(tmp_path, str(path)) == (path, "")


def test_a_hash_that_is_none_is_a_mistake(tmp_path: Path) -> None:
    path = quantised(tmp_path / "own.gguf")
    for model, sha256 in ((str(path), "abc"), ("smollm2-135m", "0" * 64)):
        with pytest.raises(Misconfigured):
            plan("llamacpp", model, tmp_path, sha256=sha256)
    with pytest.raises(Misconfigured, match="model_sha256"):
        load_config(None, {"edge.model_sha256": "abc"})


@pytest.mark.model
def test_a_run_refuses_a_model_file_with_another_hash() -> None:
    path = engines.model_file()

    async def start(sha256: str) -> str:
        async with open_engine(load_config(None, {"edge.model": str(path), "edge.model_sha256": sha256})) as engine:
            return str(engine.identity.sha256)

    right = KNOWN_MODELS["smollm2-135m"].sha256
    assert asyncio.run(start(right)) == right
    with pytest.raises(NotReady, match="its hash differs"):
        asyncio.run(start("0" * 64))
