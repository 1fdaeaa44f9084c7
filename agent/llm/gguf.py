"""GGUF model files: reads their tensors, rewrites the weights in another format, or reads the header of any file. numpy
alone.

Format version 3 (headers of version 2, too); the meaning of the tensors is left to others. The same input always gives
the same bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from market.errors import DataInvalid

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

BLOCK = 32
_TEXT, _ARRAY, _U32 = 8, 9, 4
_SCALARS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # value type: bytes


class TensorKind(IntEnum):
    """Tensor types this module can read."""

    F32 = 0
    F16 = 1
    Q4_0 = 2
    Q4_1 = 3
    Q8_0 = 8


_PACKED = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292),
    16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82),
    23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2),
    34: (256, 54), 35: (256, 66), 39: (32, 17),
}  # fmt: skip
"""Weights and bytes of a block, by tensor type with a settled layout; unknown types are not size-checked."""

_FILE_TYPES = {
    TensorKind.F32: 0,
    TensorKind.F16: 1,
    TensorKind.Q4_0: 2,
    TensorKind.Q8_0: 7,
}  # general.file_type of such files
_SIZES = {
    TensorKind.F32: (1, 4),
    TensorKind.F16: (1, 2),
    TensorKind.Q4_0: (32, 18),
    TensorKind.Q4_1: (32, 20),
    TensorKind.Q8_0: (32, 34),
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor's entry. `shape` has the row length first; `offset` counts from the start of the file's data."""

    name: str
    shape: tuple[int, ...]
    kind: TensorKind
    offset: int

    @property
    def bytes(self) -> int:
        weights, size = _SIZES[self.kind]
        return prod(self.shape) // weights * size


@dataclass(frozen=True, slots=True)
class Gguf:
    """An opened file: `metadata` are the raw key-value bytes, `data` is everything after the header."""

    pairs: int
    metadata: bytes
    file_type_at: int | None
    alignment: int
    tensors: tuple[Tensor, ...]
    data: Bytes

    def raw(self, tensor: Tensor) -> Bytes:
        return self.data[tensor.offset : tensor.offset + tensor.bytes]

    def values(self, tensor: Tensor) -> Floats:
        """The tensor's weights in one dimension."""
        return dequantised(self.raw(tensor), tensor.kind)


@dataclass(frozen=True, slots=True)
class Header:
    """Facts from a file's header."""

    architecture: str
    name: str
    tensors: int


def read_gguf(path: Path) -> Gguf:
    """Read a file. Raises DataInvalid when it is damaged or holds tensors of another type."""
    with _plainly(path):
        return _parsed(np.memmap(path, np.uint8, "r"))


def header(path: Path) -> Header:
    """Read the header of a file with weights of any type, and check that the announced weights are present.

    Raises DataInvalid when the file is damaged, cut off or no GGUF.
    """
    with _plainly(path):
        return _header(np.memmap(path, np.uint8, "r"))


@contextmanager
def _plainly(path: Path) -> Iterator[None]:
    try:
        yield
    except (ValueError, IndexError, struct.error, UnicodeDecodeError, OSError) as error:
        raise DataInvalid(f"{path.name} is not a whole GGUF file: {error}.", next_step="Fetch it again.") from error


def requantise(
    source: Path,
    target: Path,
    progress: Callable[[float], None] = lambda _: None,
    *,
    kind: TensorKind = TensorKind.Q8_0,
) -> None:
    """Write `source` to `target` with every matrix as `kind`; vectors keep their values, as F32. `progress` gets 0..1.

    Raises DataInvalid when `source` is damaged, ValueError for a kind that cannot be written.
    """
    if kind not in _FILE_TYPES:
        raise ValueError(f"weights cannot be written as {kind.name}")
    model = read_gguf(source)
    whole = sum(tensor.bytes for tensor in model.tensors)
    with target.open("wb") as file:
        _write_header(file, model, kind)
        done = 0
        for tensor in model.tensors:
            packed = _repacked(model, tensor, kind)
            file.write(packed)
            file.write(b"\0" * (-len(packed) % model.alignment))
            done += tensor.bytes
            progress(done / whole)


def dequantised(raw: Bytes, kind: TensorKind) -> Floats:
    """Weights as float32 from packed bytes."""
    if kind is TensorKind.F32:
        return raw.view(np.float32)
    if kind is TensorKind.F16:
        return raw.view(np.float16).astype(np.float32)
    blocks = raw.reshape(-1, _SIZES[kind][1])
    scale = blocks[:, :2].copy().view(np.float16).astype(np.float32)
    if kind is TensorKind.Q8_0:
        return (blocks[:, 2:].view(np.int8).astype(np.float32) * scale).ravel()
    low_high = blocks[:, -16:]
    nibbles = np.concatenate([low_high & 15, low_high >> 4], axis=1).astype(np.float32)
    if kind is TensorKind.Q4_0:
        return ((nibbles - np.float32(8)) * scale).ravel()
    return (nibbles * scale + blocks[:, 2:4].copy().view(np.float16).astype(np.float32)).ravel()


def quantised(values: Floats, kind: TensorKind = TensorKind.Q8_0) -> Bytes:
    """Packed bytes: plain float16, or per 32 weights a float16 scale and signed bytes (Q8_0) or nibbles (Q4_0).

    Raises DataInvalid for weights that are not finite or too large for the format.
    """
    limit = {TensorKind.F16: 1, TensorKind.Q4_0: 8, TensorKind.Q8_0: 127}[kind]
    if not (np.abs(values) < np.float32(limit * 65504)).all():
        raise DataInvalid("A tensor holds weights that are no usable numbers.")
    if kind is TensorKind.F16:
        return values.astype(np.float16).view(np.uint8)
    blocks = values.reshape(-1, BLOCK)
    return _nibbles(blocks) if kind is TensorKind.Q4_0 else _bytes(blocks)


def _bytes(blocks: Floats) -> Bytes:
    largest = np.abs(blocks).max(axis=1, keepdims=True)
    scale = (largest / np.float32(127)).astype(np.float16)
    wide = scale.astype(np.float32)
    # Levels come from the scale as it is stored, rounded to float16: from the exact one the error would be larger.
    levels = np.rint(np.divide(blocks, wide, out=np.zeros_like(blocks), where=wide > 0)).clip(-127, 127)
    return np.concatenate([scale.view(np.uint8), levels.astype(np.int8).view(np.uint8)], axis=1).ravel()


def _nibbles(blocks: Floats) -> Bytes:
    """Q4_0 blocks: levels from -8 to 7; the weight of largest magnitude is mapped to -8, whatever its sign."""
    furthest = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=1)[:, None], axis=1)
    scale = (furthest / np.float32(-8)).astype(np.float16)
    wide = scale.astype(np.float32)
    levels = np.rint(np.divide(blocks, wide, out=np.zeros_like(blocks), where=wide != 0)).clip(-8, 7) + 8
    low, high = np.split(levels.astype(np.uint8), 2, axis=1)
    return np.concatenate([scale.view(np.uint8), low | high << 4], axis=1).ravel()


def _target_kind(tensor: Tensor, kind: TensorKind) -> TensorKind:
    return kind if len(tensor.shape) > 1 and tensor.shape[0] % BLOCK == 0 else TensorKind.F32


def _repacked(model: Gguf, tensor: Tensor, kind: TensorKind) -> bytes:
    target = _target_kind(tensor, kind)
    if tensor.kind is target:
        return model.raw(tensor).tobytes()
    values = model.values(tensor)
    return (values if target is TensorKind.F32 else quantised(values, target)).tobytes()


def _write_header(file: BinaryIO, model: Gguf, kind: TensorKind) -> None:
    metadata, pairs = bytearray(model.metadata), model.pairs
    if model.file_type_at is None:
        metadata += _text("general.file_type") + struct.pack("<II", _U32, _FILE_TYPES[kind])
        pairs += 1
    else:
        struct.pack_into("<I", metadata, model.file_type_at, _FILE_TYPES[kind])
    file.write(b"GGUF" + struct.pack("<IQQ", 3, len(model.tensors), pairs) + metadata)
    offset = 0
    for tensor in model.tensors:
        packed = Tensor(tensor.name, tensor.shape, _target_kind(tensor, kind), offset)
        shape = struct.pack(f"<I{len(packed.shape)}Q", len(packed.shape), *packed.shape)
        file.write(_text(packed.name) + shape + struct.pack("<IQ", packed.kind, offset))
        offset += -(-packed.bytes // model.alignment) * model.alignment
    file.write(b"\0" * (-file.tell() % model.alignment))


def _text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


class _Cursor:
    """Reads forward through the header."""

    def __init__(self, content: Bytes) -> None:
        self._content = content
        self.at = 0

    def take(self, count: int) -> bytes:
        if count < 0 or self.at + count > len(self._content):
            raise ValueError("it ends too early")
        self.at += count
        return self._content[self.at - count : self.at].tobytes()

    def number(self, code: str) -> int:
        return int(struct.unpack("<" + code, self.take(struct.calcsize(code)))[0])

    def text(self) -> str:
        return self.take(self.number("Q")).decode()

    def skip(self, kind: int) -> None:
        if kind == _TEXT:
            self.take(self.number("Q"))
        elif kind == _ARRAY:
            inner, count = self.number("I"), self.number("Q")
            if inner in _SCALARS:
                self.take(_SCALARS[inner] * count)
            else:
                for _ in range(count):
                    self.skip(inner)
        elif kind in _SCALARS:
            self.take(_SCALARS[kind])
        else:
            raise ValueError(f"a value has the unknown type {kind}")


def _parsed(content: Bytes) -> Gguf:
    cursor = _Cursor(content)
    if cursor.take(4) != b"GGUF" or cursor.number("I") != 3:
        raise ValueError("it does not begin as GGUF version 3 does")
    count, pairs = cursor.number("Q"), cursor.number("Q")
    start, alignment, file_type_at = cursor.at, 32, None
    for _ in range(pairs):
        key, kind = cursor.text(), cursor.number("I")
        if key == "general.file_type" and kind == _U32:
            file_type_at = cursor.at - start
        if key == "general.alignment" and kind == _U32:
            alignment = cursor.number("I")
        else:
            cursor.skip(kind)
    if alignment <= 0 or alignment % 8:
        raise ValueError(f"an alignment of {alignment} is impossible")
    metadata = content[start : cursor.at].tobytes()
    tensors = tuple(_tensor(cursor) for _ in range(count))
    data = content[-(-cursor.at // alignment) * alignment :]
    for tensor in tensors:
        if tensor.offset + tensor.bytes > len(data):
            raise ValueError(f"the tensor {tensor.name} is cut off")
    return Gguf(
        pairs=pairs, metadata=metadata, file_type_at=file_type_at, alignment=alignment, tensors=tensors, data=data
    )


def _tensor(cursor: _Cursor) -> Tensor:
    name, dimensions = cursor.text(), cursor.number("I")
    if not 1 <= dimensions <= 4:
        raise ValueError(f"the tensor {name} has {dimensions} dimensions")
    shape = tuple(cursor.number("Q") for _ in range(dimensions))
    kind, offset = cursor.number("I"), cursor.number("Q")
    if kind not in set(TensorKind):
        raise ValueError(f"the tensor {name} has the type {kind}, which cannot be read")
    if shape[0] % _SIZES[TensorKind(kind)][0]:
        raise ValueError(f"the tensor {name} has rows of {shape[0]}")
    return Tensor(name, shape, TensorKind(kind), offset)


def _header(content: Bytes) -> Header:
    cursor = _Cursor(content)
    if cursor.take(4) != b"GGUF" or cursor.number("I") not in (2, 3):
        raise ValueError("it does not begin as GGUF version 2 or 3 does")
    count, pairs = cursor.number("Q"), cursor.number("Q")
    facts, alignment = {"general.architecture": "", "general.name": ""}, 32
    for _ in range(pairs):
        key, kind = cursor.text(), cursor.number("I")
        if key in facts and kind == _TEXT:
            facts[key] = cursor.text()
        elif key == "general.alignment" and kind == _U32:
            alignment = cursor.number("I")
        else:
            cursor.skip(kind)
    if not facts["general.architecture"] or alignment <= 0:
        raise ValueError("it does not say which architecture it is")
    ends = [_end(cursor) for _ in range(count)]
    data = len(content) - -(-cursor.at // alignment) * alignment
    if not ends or max(ends) > data:
        raise ValueError("its weights are cut off")
    return Header(facts["general.architecture"], facts["general.name"], count)


def _end(cursor: _Cursor) -> int:
    """End of the next listed tensor, counted from the start of the data."""
    name, dimensions = cursor.text(), cursor.number("I")
    if not 1 <= dimensions <= 4:
        raise ValueError(f"the tensor {name} has {dimensions} dimensions")
    weights = prod(cursor.number("Q") for _ in range(dimensions))
    kind, offset = cursor.number("I"), cursor.number("Q")
    block, size = _PACKED.get(kind, (1, 0))
    return offset + weights // block * size
