"""A llama-family network as an OpenVINO graph over the weights of a GGUF file, without another file in between.

The graph has one row per token and a cache that grows by the rows evaluated. Which earlier rows a row attends to, and
its position, are inputs: branches of a tree of texts lie side by side in one cache and share their trunk. Operations
are written the way the CPU plugin recognises and fuses (compressed matrix product, rotary embedding, attention over a
stateful cache); another spelling computes the same, several times slower.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.llm import gguf
from agent.llm.gguf import BLOCK, Tensor, TensorKind
from agent.llm.openvino.architecture import architecture
from market.errors import NotReady

TOKENS, POSITIONS, MASK, WANTED, BEAM = "tokens", "positions", "mask", "wanted", "beam"
"""Inputs: [1, rows] i64; [1, rows] i64; [1, 1, rows, cells] f32, added to the attention; [wanted] i64; [1] i32, always
zero, which the fusion of the cache needs. The one output is [1, wanted, vocabulary] f32."""

_END = np.iinfo(np.int64).max


def build(openvino: Any, model: gguf.Gguf) -> Any:
    """The `openvino.Model`. Raises NotReady for an unsupported network or weights."""
    return _Builder(openvino, model).model()


class _Builder:
    """Builds one graph; each method returns a node of it."""

    def __init__(self, openvino: Any, model: gguf.Gguf) -> None:
        self._ov, self._op, self._old = openvino, openvino.opset13, openvino.opset6
        self._gguf, self._shape = model, architecture(model)
        self._left = {tensor.name: tensor for tensor in model.tensors}
        self._sinks: list[Any] = []

    def model(self) -> Any:
        op, types = self._op, self._ov.Type
        tokens = op.parameter([-1, -1], types.i64, name=TOKENS)
        positions = op.parameter([-1, -1], types.i64, name=POSITIONS)
        mask = op.parameter([-1, 1, -1, -1], types.f32, name=MASK)
        wanted = op.parameter([-1], types.i64, name=WANTED)
        self._mask, self._beam = mask, op.parameter([-1], types.i32, name=BEAM)
        self._batch = op.gather(op.shape_of(tokens), _ints(op, [0]), _ints(op, 0))
        self._cosine, self._sine = self._rotation(positions)
        embedding = self._matrix("token_embd.weight")
        rows = op.gather(embedding, op.convert(tokens, types.i32), _ints(op, 0))
        for layer in range(self._shape.layers):
            rows = self._layer(rows, f"blk.{layer}.")
        rows = self._normed(op.gather(rows, wanted, _ints(op, 1)), "output_norm.weight")
        # Small models tie the output matrix to the embedding.
        head = self._matrix("output.weight") if "output.weight" in self._left else embedding
        result = op.result(op.matmul(rows, head, False, True))
        if self._left:
            raise NotReady(f"The model holds the tensor {min(self._left)}, which is not part of a plain llama network.")
        return self._ov.Model([result], self._sinks, [tokens, positions, mask, wanted, self._beam], "llama")

    def _layer(self, rows: Any, at: str) -> Any:
        op, shape = self._op, self._shape
        seen = self._normed(rows, f"{at}attn_norm.weight")
        query = self._rotated(self._split(self._times(seen, f"{at}attn_q.weight", shape.heads), shape.heads))
        key = self._rotated(self._split(self._times(seen, f"{at}attn_k.weight", shape.groups), shape.groups))
        value = self._split(self._times(seen, f"{at}attn_v.weight"), shape.groups)
        attended = op.scaled_dot_product_attention(
            query, self._cached(key, f"{at}key"), self._cached(value, f"{at}value"), self._mask
        )
        joined = op.reshape(_swapped(op, attended), _ints(op, [0, 0, shape.heads * shape.width]), True)
        rows = op.add(rows, self._times(joined, f"{at}attn_output.weight"))
        seen = self._normed(rows, f"{at}ffn_norm.weight")
        gate = op.swish(self._times(seen, f"{at}ffn_gate.weight"))
        grown = op.multiply(gate, self._times(seen, f"{at}ffn_up.weight"))
        return op.add(rows, self._times(grown, f"{at}ffn_down.weight"))

    def _cached(self, rows: Any, name: str) -> Any:
        """The cache with these rows appended, repeated for each head that shares them."""
        op, shape = self._op, self._shape
        empty = op.concat([self._batch, _ints(op, [shape.groups, 0, shape.width])], 0)
        none = op.broadcast(_floats(op, 0), empty)
        past = self._old.read_value(
            none, name, self._ov.Type.f32, self._ov.PartialShape([-1, shape.groups, -1, shape.width])
        )
        whole = op.concat([op.gather(past, self._beam, _ints(op, 0)), rows], 2)
        self._sinks.append(self._old.assign(whole, name))
        if shape.heads == shape.groups:
            return whole
        sharing = _ints(op, [shape.groups, shape.heads // shape.groups, 1, shape.width])
        repeated = op.broadcast(
            op.unsqueeze(whole, _ints(op, 2)), op.concat([self._batch, sharing], 0), broadcast_spec="BIDIRECTIONAL"
        )
        return op.reshape(repeated, _ints(op, [0, shape.heads, -1, shape.width]), True)

    def _rotation(self, positions: Any) -> tuple[Any, Any]:
        """Cosine and sine for each row and component of a head."""
        op, width = self._op, self._shape.width
        speed = 1 / self._shape.base ** (np.arange(0, width, 2) / width)
        if (factors := self._left.pop("rope_freqs.weight", None)) is not None:
            speed = speed / self._gguf.values(factors)
        column = op.broadcast(
            _floats(op, speed.reshape(1, -1, 1)),
            op.concat([self._batch, _ints(op, [width // 2, 1])], 0),
            broadcast_spec="BIDIRECTIONAL",
        )
        row = op.convert(op.unsqueeze(positions, _ints(op, 1)), self._ov.Type.f32)
        angle = op.transpose(op.matmul(column, row, False, False), _ints(op, [0, 2, 1]))
        both = op.concat([angle, angle], -1)
        return op.unsqueeze(op.cos(both), _ints(op, 1)), op.unsqueeze(op.sin(both), _ints(op, 1))

    def _rotated(self, heads: Any) -> Any:
        op, half = self._op, self._shape.width // 2
        first = op.slice(heads, *(_ints(op, [at]) for at in (0, half, 1, 3)))
        second = op.slice(heads, *(_ints(op, [at]) for at in (half, _END, 1, 3)))
        turned = op.concat([op.multiply(second, _floats(op, [[[[-1]]]])), first], -1)
        return op.add(op.multiply(heads, self._cosine), op.multiply(turned, self._sine))

    def _split(self, rows: Any, heads: int) -> Any:
        op = self._op
        return _swapped(op, op.reshape(rows, _ints(op, [0, 0, heads, self._shape.width]), True))

    def _normed(self, rows: Any, name: str) -> Any:
        op = self._op
        scale = self._gguf.values(self._taken(name)).reshape(1, 1, -1)
        mean = op.reduce_mean(op.power(rows, _floats(op, 2)), _ints(op, [-1]), True)
        inverse = op.divide(_floats(op, 1), op.sqrt(op.add(mean, _floats(op, self._shape.epsilon))))
        return op.multiply(op.multiply(rows, inverse), _floats(op, scale))

    def _times(self, rows: Any, name: str, heads: int = 0) -> Any:
        return self._op.matmul(rows, self._matrix(name, heads), False, True)

    def _matrix(self, name: str, heads: int = 0) -> Any:
        """A weight matrix [out, in]. GGUF stores the two halves of a rotated head interleaved; with `heads` they are
        laid one after the other."""
        op, tensor = self._op, self._taken(name)
        inner, outer = tensor.shape
        order = _halves(outer, heads)
        if tensor.kind in (TensorKind.F32, TensorKind.F16):
            kind = np.float32 if tensor.kind is TensorKind.F32 else np.float16
            plain = self._gguf.raw(tensor).view(kind).reshape(outer, inner)[order]
            return op.convert(op.constant(plain), self._ov.Type.f32)
        if tensor.kind is not TensorKind.Q8_0:
            raise NotReady(
                f"The model's weights are {tensor.kind.name}, which OpenVINO would round once more.",
                next_step="Use the llamacpp engine, or a Q8_0 file.",
            )
        blocks = self._gguf.raw(tensor).reshape(outer, inner // BLOCK, -1)[order]
        scales = np.ascontiguousarray(blocks[:, :, :2]).view(np.float16)
        levels = np.ascontiguousarray(blocks[:, :, 2:]).view(np.int8)
        weights = op.multiply(op.convert(op.constant(levels), self._ov.Type.f16), op.constant(scales))
        return op.convert(op.reshape(weights, _ints(op, [outer, inner]), False), self._ov.Type.f32)

    def _taken(self, name: str) -> Tensor:
        try:
            return self._left.pop(name)
        except KeyError:
            raise NotReady(f"The model holds no tensor {name}.", next_step="Install the model again.") from None


def _halves(outer: int, heads: int) -> NDArray[np.intp]:
    rows = np.arange(outer)
    return rows.reshape(heads, -1, 2).transpose(0, 2, 1).ravel() if heads else rows


def _swapped(op: Any, rows: Any) -> Any:
    return op.transpose(rows, _ints(op, [0, 2, 1, 3]))


def _ints(op: Any, values: int | Sequence[int]) -> Any:
    return op.constant(np.asarray(values, np.int64))


def _floats(op: Any, values: object) -> Any:
    return op.constant(np.array(values, np.float32))
