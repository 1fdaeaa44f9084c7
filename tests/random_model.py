"""Random-weight GGUF in the shape of a larger llama: grouped heads, another width and depth, scaled rotary frequencies,
a begin token; with the small model's own tokenizer. Its output is meaningless, but computed."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agent.llm.gguf import BLOCK, Bytes, TensorKind, read_gguf


@dataclass(frozen=True, slots=True)
class Shape:
    """Dimensions, named as by llama.cpp; the default is Llama-3.2-3B's grouping (24 heads on 8) made small."""

    width: int = 192
    layers: int = 2
    inner: int = 512
    heads: int = 6
    key_heads: int = 2
    tied: bool = True
    begins: bool = True


def write_random(source: Path, target: Path, shape: Shape, seed: int = 1) -> Path:
    """Write a model of `shape` to `target`, with the tokenizer of the GGUF at `source`."""
    model = read_gguf(source)
    metadata = bytearray(model.metadata)
    for key, code, value in (
        ("llama.block_count", "I", shape.layers),
        ("llama.embedding_length", "I", shape.width),
        ("llama.feed_forward_length", "I", shape.inner),
        ("llama.attention.head_count", "I", shape.heads),
        ("llama.attention.head_count_kv", "I", shape.key_heads),
        ("llama.rope.freq_base", "f", 500_000.0),
        ("llama.rope.dimension_count", "I", shape.width // shape.heads),
        ("tokenizer.ggml.add_bos_token", "?", shape.begins),
    ):
        # Behind a key stand four bytes of its value's type, then the value.
        struct.pack_into("<" + code, metadata, metadata.index(_text(key)) + len(_text(key)) + 4, value)
    (vocabulary,) = (tensor.shape[1] for tensor in model.tensors if tensor.name == "token_embd.weight")
    shapes = _tensors(shape, vocabulary)
    header, offset = b"", 0
    for name, dims in shapes.items():
        kind = TensorKind.F32 if len(dims) == 1 else TensorKind.Q8_0
        header += _text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)
        offset += _size(dims) + -_size(dims) % 32
    chance = np.random.default_rng(seed)
    with target.open("wb") as file:
        file.write(b"GGUF" + struct.pack("<IQQ", 3, len(shapes), model.pairs) + metadata + header)
        # GGUF aligns tensors to 32 bytes.
        file.write(b"\0" * (-file.tell() % 32))
        for name, dims in shapes.items():
            packed = _weights(name, dims, chance).tobytes()
            file.write(packed + b"\0" * (-len(packed) % 32))
    return target


def _tensors(shape: Shape, vocabulary: int) -> dict[str, tuple[int, ...]]:
    width, inner, keys = shape.width, shape.inner, shape.width // shape.heads * shape.key_heads
    found: dict[str, tuple[int, ...]] = {"token_embd.weight": (width, vocabulary), "output_norm.weight": (width,)}
    if not shape.tied:
        found["output.weight"] = (width, vocabulary)
    found["rope_freqs.weight"] = (width // shape.heads // 2,)
    for layer in range(shape.layers):
        block = {
            "attn_norm": (width,),
            "attn_q": (width, width),
            "attn_k": (width, keys),
            "attn_v": (width, keys),
            "attn_output": (width, width),
            "ffn_norm": (width,),
            "ffn_gate": (width, inner),
            "ffn_up": (width, inner),
            "ffn_down": (inner, width),
        }
        found |= {f"blk.{layer}.{name}.weight": dims for name, dims in block.items()}
    return found


def _text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def _size(dims: tuple[int, ...]) -> int:
    # Q8_0 packs 32 weights into 34 bytes: a 16-bit scale and a byte each.
    return 4 * dims[0] if len(dims) == 1 else dims[0] * dims[1] // BLOCK * 34


def _weights(name: str, dims: tuple[int, ...], chance: np.random.Generator) -> Bytes:
    """Norms of one, rotary factors from 1 to 32 as long contexts have them, matrices of random levels."""
    if len(dims) == 1:
        plain = np.geomspace(1, 32, dims[0]) if name.startswith("rope") else np.ones(dims[0])
        return plain.astype(np.float32).view(np.uint8)
    blocks = dims[0] * dims[1] // BLOCK
    scale = np.full((blocks, 1), 2e-3, np.float16).view(np.uint8)
    return np.concatenate([scale, chance.integers(0, 256, (blocks, BLOCK), dtype=np.uint8)], axis=1)
