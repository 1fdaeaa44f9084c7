"""Requantising a small random GGUF that the test writes itself, and the error bound of Q8_0."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from agent.llm.gguf import BLOCK, Floats, TensorKind, dequantised, quantised, read_gguf, requantise
from market.errors import DataInvalid

TINY = 2.0**-14  # below this, a float16 scale loses digits


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def number(key: str, value: int) -> bytes:
    return text(key) + struct.pack("<II", 4, value)


def random_blocks(kind: TensorKind, blocks: int, chance: np.random.Generator) -> bytes:
    """Packed bytes with moderate scales: float16 scale (and offset for Q4_1), then random levels."""
    heads = {TensorKind.Q4_0: 1, TensorKind.Q4_1: 2, TensorKind.Q8_0: 1}[kind]
    head = chance.normal(0, 0.01, (blocks, heads)).astype(np.float16).view(np.uint8)
    levels = chance.integers(0, 256, (blocks, 32 if kind is TensorKind.Q8_0 else 16), dtype=np.uint8)
    return np.concatenate([head, levels], axis=1).tobytes()


def tensors() -> dict[str, tuple[tuple[int, ...], TensorKind, bytes]]:
    chance = np.random.default_rng(5)
    plain: NDArray[np.float64] = chance.normal(size=(4, 64))
    return {
        "norm": ((48,), TensorKind.F32, chance.normal(size=48).astype(np.float32).tobytes()),
        "a": ((64, 4), TensorKind.Q4_1, random_blocks(TensorKind.Q4_1, 8, chance)),
        "b": ((64, 2), TensorKind.Q4_0, random_blocks(TensorKind.Q4_0, 4, chance)),
        "c": ((32, 3), TensorKind.Q8_0, random_blocks(TensorKind.Q8_0, 3, chance)),
        "d": ((64, 4), TensorKind.F16, plain.astype(np.float16).tobytes()),
        "e": ((64, 4), TensorKind.F32, plain.astype(np.float32).tobytes()),
    }


def written(path: Path, *, file_type: bool = True) -> Path:
    pairs = [
        text("general.name") + struct.pack("<I", 8) + text("random"),
        text("tokens") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("b"),
        text("scores") + struct.pack("<IIQ2f", 9, 6, 2, 0.5, 1.5),
        *([number("general.file_type", 3)] if file_type else []),
    ]
    header, data = b"", b""
    for name, (shape, kind, raw) in tensors().items():
        header += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, len(data))
        data += raw + b"\0" * (-len(raw) % 32)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors()), len(pairs)) + b"".join(pairs) + header
    path.write_bytes(head + b"\0" * (-len(head) % 32) + data)
    return path


@pytest.mark.parametrize("file_type", [True, False])
def test_matrices_become_q8_0_and_vectors_keep_their_bytes(tmp_path: Path, file_type: bool) -> None:
    source = written(tmp_path / "in.gguf", file_type=file_type)
    shares: list[float] = []
    requantise(source, tmp_path / "out.gguf", shares.append)
    before, after = read_gguf(source), read_gguf(tmp_path / "out.gguf")
    assert shares[-1] == 1.0 and shares == sorted(shares)
    for old, new in zip(before.tensors, after.tensors, strict=True):
        assert (old.name, old.shape) == (new.name, new.shape)
        assert new.kind is (TensorKind.F32 if old.name == "norm" else TensorKind.Q8_0)
        largest = float(np.abs(before.values(old)).max())
        assert np.abs(after.values(new) - before.values(old)).max() <= largest / 200
    raw = {tensor.name: after.raw(tensor).tobytes() for tensor in after.tensors}
    assert raw["norm"] == tensors()["norm"][2]
    assert raw["c"] == tensors()["c"][2]
    assert number("general.file_type", 7) in after.metadata
    assert before.metadata.replace(number("general.file_type", 3), b"") in after.metadata.replace(
        number("general.file_type", 7), b""
    )


@pytest.mark.parametrize(
    ("kind", "file_type", "levels"), [(TensorKind.F16, 1, 1000), (TensorKind.Q4_0, 2, 7.9), (TensorKind.F32, 0, 1e6)]
)
def test_other_formats_are_written_as_their_readers_expect(
    tmp_path: Path, kind: TensorKind, file_type: int, levels: float
) -> None:
    source = written(tmp_path / "in.gguf")
    requantise(source, tmp_path / "out.gguf", kind=kind)
    before, after = read_gguf(source), read_gguf(tmp_path / "out.gguf")
    assert number("general.file_type", file_type) in after.metadata
    for old, new in zip(before.tensors, after.tensors, strict=True):
        assert new.kind is (TensorKind.F32 if old.name == "norm" else kind)
        wide, narrow = before.values(old).reshape(-1, 16), after.values(new).reshape(-1, 16)
        assert np.abs(wide - narrow).max() <= np.abs(wide).max() / levels


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    source = written(tmp_path / "in.gguf")
    with pytest.raises(ValueError, match="Q4_1"):
        requantise(source, tmp_path / "out.gguf", kind=TensorKind.Q4_1)
    with pytest.raises(DataInvalid):
        quantised(np.array([70_000.0] * BLOCK, np.float32), TensorKind.F16)


@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=BLOCK, max_size=BLOCK))
def test_a_nibble_keeps_the_largest_weight(weights: list[float]) -> None:
    values: Floats = np.array(weights, np.float32)
    back = dequantised(quantised(values, TensorKind.Q4_0), TensorKind.Q4_0)
    largest = float(np.abs(values).max())
    at = int(np.abs(values).argmax())
    assert abs(back[at] - values[at]) <= largest / 1000 + 1e-6
    assert np.abs(back - values).max() <= 1.01 * largest / 8 + 1e-6


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    source = written(tmp_path / "in.gguf")
    for name in ("one", "two"):
        requantise(source, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    requantise(tmp_path / "one", tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "one").read_bytes()


def test_packed_levels_read_as_the_format_says() -> None:
    scale, offset = np.float16(0.5).tobytes(), np.float16(-1.0).tobytes()
    nibbles = bytes([0x21] * 16)  # low half first: sixteen 1s, then sixteen 2s
    q4_1 = dequantised(np.frombuffer(scale + offset + nibbles, np.uint8), TensorKind.Q4_1)
    assert q4_1.tolist() == [-0.5] * 16 + [0.0] * 16
    q4_0 = dequantised(np.frombuffer(scale + nibbles, np.uint8), TensorKind.Q4_0)
    assert q4_0.tolist() == [-3.5] * 16 + [-3.0] * 16
    q8_0 = dequantised(np.frombuffer(scale + bytes([255] * 32), np.uint8), TensorKind.Q8_0)
    assert q8_0.tolist() == [-0.5] * 32


@given(st.data(), st.integers(0, 4096))
def test_a_damaged_file_is_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, seed: int) -> None:
    folder = tmp_path_factory.mktemp("cut")
    whole = written(folder / "whole.gguf").read_bytes()
    cut = data.draw(st.integers(0, len(whole) - 33))
    (folder / "cut.gguf").write_bytes(whole[:cut])
    with pytest.raises(DataInvalid, match="not a whole GGUF file"):
        read_gguf(folder / "cut.gguf")


def test_strange_files_are_refused(tmp_path: Path) -> None:
    whole = written(tmp_path / "in.gguf").read_bytes()
    unknown = whole.replace(
        text("a") + struct.pack("<IQQI", 2, 64, 4, 3), text("a") + struct.pack("<IQQI", 2, 64, 4, 99)
    )
    assert unknown != whole
    for damaged in (b"GGML" + whole[4:], whole[:4] + b"\x02" + whole[5:], unknown):
        (tmp_path / "bad.gguf").write_bytes(damaged)
        with pytest.raises(DataInvalid):
            read_gguf(tmp_path / "bad.gguf")
    with pytest.raises(DataInvalid):
        read_gguf(tmp_path / "none.gguf")


@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=BLOCK, max_size=BLOCK))
def test_a_weight_moves_by_at_most_half_a_level(weights: list[float]) -> None:
    values: Floats = np.array(weights, np.float32)
    back = dequantised(quantised(values), TensorKind.Q8_0)
    level = float(np.abs(values).max()) / 127
    assert np.abs(back - values).max() <= 0.51 * level + (130 * 2.0**-25 if level < TINY else 0.07 * level)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e30])
def test_weights_that_are_no_numbers_are_refused(bad: float) -> None:
    with pytest.raises(DataInvalid):
        quantised(np.array([bad] * BLOCK, np.float32))
