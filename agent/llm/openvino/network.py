"""The compiled graph and its cache: evaluates rows, saves and restores the cache, all synchronous.

Independent of prompts. Not thread-safe.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from agent.llm import gguf
from agent.llm.logits import Logits
from agent.llm.openvino import graph, runtime
from agent.llm.openvino.graph import BEAM, MASK, POSITIONS, TOKENS, WANTED
from agent.llm.openvino.tree import NONE, CacheRow, CacheTree, Floats
from agent.llm.stop import CallStop
from market.errors import DataInvalid, EngineUnavailable, NotReady

_AGAIN = "Start the agent again."
_ROWS = 64  # rows in one inference: how long a deadline may have to wait


class Precision(StrEnum):
    """Rounding of activations. `F32`: none. `INT8`: 8 bits to each 32 neighbours, about
    twice as fast for a few tokens. `BF16`: 8 significant bits, fastest for long prompts, where the processor can."""

    F32 = "f32"
    INT8 = "int8"
    BF16 = "bf16"


def properties(precision: Precision, threads: int) -> dict[str, object]:
    """Properties of the CPU plugin. By default it would round both the activations and the cache to 8 bits."""
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,
        "INFERENCE_PRECISION_HINT": "bf16" if precision is Precision.BF16 else "f32",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 32 if precision is Precision.INT8 else 0,
        "KV_CACHE_PRECISION": "f32",
    }


@dataclass(frozen=True, slots=True)
class Saved:
    """A copy of the cache's first `cells` cells: one [1, groups, cells, width] array for each of its states."""

    cells: int
    parts: tuple[Floats, ...] = ()


class Network:
    """One compiled graph and one cache. After any error call `back` before the next `evaluate`.

    Inferences are never cancelled half-way: a cancelled one leaves the plugin's graph with sizes of the abandoned
    call, and the next of the old size fails (seen in 2026.4.1). So the work is cut into pieces of _ROWS rows.
    """

    def __init__(self, openvino: Any, model: Any, *, precision: Precision, threads: int) -> None:
        self._openvino = openvino
        core = runtime.core()
        try:
            compiled = core.compile_model(model, "CPU", properties(precision, threads))
            self._request = compiled.create_infer_request()
            self._parts = self._request.query_state()
        except RuntimeError as error:
            raise NotReady(f"OpenVINO cannot compile the model: {_reason(error)}.") from error
        self.device = str(core.get_property("CPU", "FULL_DEVICE_NAME")).strip()
        self.precision, self.threads = precision, threads
        self.stop = CallStop(None)
        self.broken = ""
        self.rows = 0  # begun, finished or not
        self._held = 0  # cells in the plugin's cache
        self._pending: Saved | None = Saved(0)

    def saved(self) -> Saved:
        """A copy of the cache as it is. Raises EngineUnavailable when the library fails."""
        with self._watched():
            self._settle()
            return Saved(self._held, tuple(np.array(part.state.data) for part in self._parts))

    def back(self, saved: Saved) -> None:
        """Return to a saved cache; it is restored at the next use."""
        self._pending = saved

    def evaluate(self, tree: CacheTree, rows: Sequence[CacheRow]) -> list[Logits]:
        """Logits of the answering rows, in their order. The rows are the tree's last cells.

        Raises EngineTimeout when stopped, EngineUnavailable when the library fails.
        """
        found: list[Logits] = []
        first = tree.top - len(rows)
        for at in range(0, len(rows), _ROWS):
            self.stop.check()
            self.rows += min(_ROWS, len(rows) - at)
            with self._watched():
                found += self._inferred(tree, first + at, rows[at : at + _ROWS])
        return found

    def _inferred(self, tree: CacheTree, first: int, rows: Sequence[CacheRow]) -> list[Logits]:
        self._settle()
        if first != self._held:
            raise EngineUnavailable("The model's cache is not what its bookkeeping says.")
        end = first + len(rows)
        wanted = [at for at, row in enumerate(rows) if row.answers != NONE]
        self._request.infer(
            {
                TOKENS: np.array([[row.token for row in rows]], np.int64),
                POSITIONS: np.array([[row.position for row in rows]], np.int64),
                MASK: tree.mask(first, end)[None, None],
                # Without a wanted row one is computed all the same, and dropped: the output is never empty.
                WANTED: np.array(wanted or [0], np.int64),
                BEAM: np.zeros(1, np.int32),
            }
        )
        self._held = end
        logits = np.array(self._request.get_output_tensor(0).data[0, : len(wanted)])
        if not np.isfinite(logits).all():
            raise EngineUnavailable("The model answered with numbers that are not finite.")
        return list(logits)

    def _settle(self) -> None:
        """Restore a saved cache, if one is pending."""
        if (saved := self._pending) is None:
            return
        if saved.parts:
            for part, values in zip(self._parts, saved.parts, strict=True):
                part.state = self._openvino.Tensor(values)
        else:
            self._request.reset_state()
        self._held, self._pending = saved.cells, None

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Turn a failure of the library into EngineUnavailable, permanently: the state it leaves behind cannot be
        trusted."""
        if self.broken:
            raise EngineUnavailable(self.broken, next_step=_AGAIN)
        try:
            yield
        except RuntimeError as error:
            self.broken = f"OpenVINO failed: {_reason(error)}."
            raise EngineUnavailable(self.broken, next_step=_AGAIN) from error


def loaded(path: Path, precision: Precision, threads: int) -> Network:
    """The compiled network of a GGUF file. Raises NotReady."""
    openvino = runtime.load_openvino()
    try:
        model = gguf.read_gguf(path)
    except DataInvalid as error:
        raise NotReady(str(error), next_step="Install the model again.") from error
    return Network(openvino, graph.build(openvino, model), precision=precision, threads=threads)


def _reason(error: RuntimeError) -> str:
    """The last line of OpenVINO's report; the first ones name its source files."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else "no reason given").rstrip(".")
