"""Network shape of a llama-family model, from the header of its GGUF file.

It reads the header's numbers; the weights are read by the graph.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from agent.llm import gguf
from market.errors import NotReady

Value = int | float | str

_TEXT, _ARRAY = 8, 9
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


@dataclass(frozen=True, slots=True)
class Architecture:
    """Shape of the network: `heads` of queries, `groups` of keys and values shared by them; `width` is one head's;
    `base` is the rotary embedding's."""

    layers: int
    heads: int
    groups: int
    width: int
    epsilon: float
    base: float


def architecture(model: gguf.Gguf) -> Architecture:
    """Shape of a model's network. Raises NotReady for one that this program cannot build."""
    found = metadata(model)
    family = found.get("general.architecture")
    if family != "llama":
        raise NotReady(f"OpenVINO is used for models of the llama family, not {family}.", next_step=_OTHER)
    try:
        heads = int(found["llama.attention.head_count"])
        shape = Architecture(
            layers=int(found["llama.block_count"]),
            heads=heads,
            groups=int(found.get("llama.attention.head_count_kv", heads)),
            width=int(found["llama.embedding_length"]) // heads,
            epsilon=float(found["llama.attention.layer_norm_rms_epsilon"]),
            base=float(found.get("llama.rope.freq_base", 10_000.0)),
        )
    except (KeyError, ValueError, ZeroDivisionError) as error:
        raise NotReady(f"The model file does not say what its network is: {error}.", next_step=_OTHER) from error
    rotated = int(found.get("llama.rope.dimension_count", shape.width))
    scaled = found.get("llama.rope.scaling.type", "none") != "none"
    if rotated != shape.width or scaled or shape.heads % shape.groups:
        raise NotReady("The model rotates or groups its heads in a way OpenVINO is not used for.", next_step=_OTHER)
    return shape


def metadata(model: gguf.Gguf) -> dict[str, Value]:
    """Every number and text of the header; lists are skipped."""
    found: dict[str, Value] = {}
    at = 0
    for _ in range(model.pairs):
        key, at = _text(model.metadata, at)
        (kind,) = struct.unpack_from("<I", model.metadata, at)
        at += 4
        if kind == _TEXT:
            found[key], at = _text(model.metadata, at)
        elif kind == _ARRAY:
            at = _after_list(model.metadata, at)
        else:
            (found[key],) = struct.unpack_from(f"<{_NUMBERS[kind]}", model.metadata, at)
            at += struct.calcsize(_NUMBERS[kind])
    return found


_OTHER = "Use the llamacpp engine for this model."


def _text(raw: bytes, at: int) -> tuple[str, int]:
    (length,) = struct.unpack_from("<Q", raw, at)
    end = at + 8 + int(length)
    return raw[at + 8 : end].decode(), end


def _after_list(raw: bytes, at: int) -> int:
    """Offset of the end of the list that begins at `at`."""
    kind, count = struct.unpack_from("<IQ", raw, at)
    at += 12
    if kind in _NUMBERS:
        return int(at + count * struct.calcsize(_NUMBERS[kind]))
    for _ in range(count):
        at = _after_list(raw, at) if kind == _ARRAY else at + 8 + int(struct.unpack_from("<Q", raw, at)[0])
    return at
