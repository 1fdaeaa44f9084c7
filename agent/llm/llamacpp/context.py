"""A model and its key-value cache over llama.cpp's C API: tokens, sequences, cells and logits, all synchronous.

Independent of prompts and of the event loop; the caller decides what to keep. Not thread-safe, except for
turning text into tokens, which only reads the vocabulary.
"""

from __future__ import annotations

import ctypes as c
import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from agent.llm.llamacpp.abi import Batch, Library, ProgressCallback
from agent.llm.llamacpp.prefixes import PrefixRow
from agent.llm.logits import Logits
from agent.llm.stop import CallStop
from market.errors import EngineTimeout, EngineUnavailable, Misconfigured, NotReady

FORKS = 16
THREADS = min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
"""Cores available to this process, at most four: a small model has no work for more."""
_PAGE = 32  # cells in one placeholder page: a multiple of every number of lanes
_PAGES = 96
_SPAN = _PAGE * (_PAGES - 2)  # cells that the pages are certain to cover
_ROWS = 512  # rows in one decode, all in one micro-batch
_MAX_SEQUENCES = 128
_ABORTED = 2


class Model:
    """A loaded GGUF file. Raises NotReady when the file is missing or its cache cannot be forked."""

    def __init__(self, library: Library, path: Path, progress: Callable[[float], None] | None = None) -> None:
        if not path.is_file():
            raise NotReady(f"The model file {path} does not exist.", next_step="Run: edgeclaw install edge-runtime")
        self.library = library
        params = library.llama_model_default_params()
        params.n_gpu_layers = 0
        params.use_extra_bufts = "AMX" not in library.system  # builds with AMX crash in their first matrix product
        if progress is not None:
            self._progress = ProgressCallback(lambda done, _: (progress(done), True)[1])
            params.progress_callback = c.cast(self._progress, c.c_void_p)
        self.handle = library.llama_model_load_from_file(str(path).encode(), params)
        if not self.handle:
            raise NotReady(f"{path.name} cannot be loaded as a GGUF model.", next_step="Install the model again.")
        if library.llama_model_is_recurrent(self.handle) or library.llama_model_is_hybrid(self.handle):
            raise NotReady(f"{path.name} is a recurrent model, whose state cannot be shared.", next_step="Use another.")
        self._vocab = library.llama_model_get_vocab(self.handle)
        self.vocabulary = library.llama_vocab_n_tokens(self._vocab)
        self.sliding_window = library.llama_model_n_swa(self.handle)

    @property
    def description(self) -> str:
        text = c.create_string_buffer(128)
        self.library.llama_model_desc(self.handle, text, len(text))
        return text.value.decode("utf-8", "replace")

    def tokens(self, text: str, *, opening: bool = False, special: bool = True) -> tuple[int, ...]:
        """Token numbers; `opening` puts the model's begin token first, if it has one."""
        raw = text.encode()
        room = len(raw) + 8
        found = (c.c_int32 * room)()
        begin = opening and self.library.llama_vocab_get_add_bos(self._vocab)
        count = self.library.llama_tokenize(self._vocab, raw, len(raw), found, room, begin, special)
        if count < 0:
            raise EngineUnavailable("The model's tokenizer did not accept the text.")
        return tuple(found[:count])

    def piece(self, token: int) -> bytes:
        """The bytes a token stands for; none for control tokens."""
        text = c.create_string_buffer(256)
        length = self.library.llama_token_to_piece(self._vocab, token, text, len(text), 0, False)
        return text.raw[: max(0, length)]

    def ends(self, token: int) -> bool:
        return bool(self.library.llama_vocab_is_eog(self._vocab, token))

    def close(self) -> None:
        if self.handle:
            self.library.llama_model_free(self.handle)
            self.handle = None


class Context:
    """The unified cache of one model, with `sequences` sequences for prompts and FORKS for samples.

    llama.cpp fills the lowest free cells first. All cells below a mark are kept occupied, so that the cell of each row
    is fixed before it is evaluated: pages of placeholders hold the cells to be skipped. The first block of cells
    belongs to the padding row. Prompts have the cells from `lanes` up to `cells`. `begun` counts the rows handed to
    `evaluate` that the model started on, whatever their result.
    """

    def __init__(self, model: Model, *, threads: int, cells: int, sequences: int) -> None:
        if not 2 <= sequences <= _MAX_SEQUENCES:
            raise Misconfigured(f"An engine has 2 to {_MAX_SEQUENCES} sequences, not {sequences}.")
        self.model, self._api = model, model.library
        self.sequences, self.threads = sequences, threads
        self.forks = range(sequences, sequences + FORKS)
        self._buried, self._buried_primed, self._pad = range(self.forks.stop, self.forks.stop + 3)
        self._free_pages = list(range(self._pad + 1, self._pad + 1 + _PAGES))
        self._width = self._pad + 1 + _PAGES
        self.cells = -(-cells // 256) * 256
        self.lanes = 16 if "AVX512 = 1" in self._api.system else 8
        self.begun = 0
        self._pages: list[tuple[int, int]] = []  # (first cell, sequence), ascending
        self._top = self._filled = self.lanes
        self.handle = self._created()
        self.stop_at(CallStop(None))
        self._memory = self._api.llama_get_memory(self.handle)
        self._fill_batch()
        self._placeholders = self._captured_page()
        self._lay_pad()
        self._api.llama_memory_seq_cp(self._memory, self._pad, self._buried_primed, 1, self.lanes)
        self._remove(self._pad, 1)

    def _created(self) -> int:
        params = self._api.llama_context_default_params()
        room = self.cells + 256  # so that the last page of placeholders always fits
        params.n_ctx, params.n_batch, params.n_ubatch, params.n_seq_max = room, _ROWS, _ROWS, self._width
        params.n_threads = params.n_threads_batch = self.threads
        # Only a unified cache shares cells between sequences; with flash attention a cached and a full prefill differ
        # in the last bits.
        params.kv_unified, params.flash_attn_type, params.no_perf = True, 0, True
        handle = self._api.llama_init_from_model(self.model.handle, params)
        if not handle:
            raise NotReady("The model cannot be given a context.", next_step="Set a smaller context.")
        # n_batch is silently capped, and a shifted struct field would set another parameter: the getters show what
        # really arrived.
        shown = [getattr(self._api, f"llama_n_{what}")(handle) for what in ("ctx", "batch", "ubatch", "seq_max")]
        expected = [room, min(_ROWS, room), min(_ROWS, room), self._width]
        if [*shown, self._api.llama_n_threads(handle)] != [*expected, self.threads]:
            raise self._api.mismatch("the context is not what was asked for")
        return int(handle)

    def stop_at(self, stop: CallStop) -> None:
        """Set the stop flag that ends an evaluation from now on."""
        self._stop = stop
        self._api.llama_set_abort_callback(self.handle, CallStop.asked, c.addressof(stop.text))

    def _fill_batch(self) -> None:
        width = self._width
        self._tokens, self._positions = np.zeros(_ROWS, np.int32), np.zeros(_ROWS, np.int32)
        self._counts, self._outputs = np.zeros(_ROWS, np.int32), np.zeros(_ROWS, np.int8)
        self._ids = np.zeros((_ROWS, width), np.int32)
        self._id_rows = np.arange(_ROWS, dtype=np.uint64) * np.uint64(width * 4) + np.uint64(self._ids.ctypes.data)
        arrays = (self._tokens, self._positions, self._counts, self._id_rows, self._outputs)
        token, pos, count, ids, outputs = (array.ctypes.data for array in arrays)
        self._batch = Batch(0, token, None, pos, count, ids, outputs)

    def _captured_page(self) -> c.Array[c.c_char]:
        """The saved state of one page of cells, to be placed wherever cells must not be used."""
        self._decode(
            [PrefixRow(token=0, position=at, sequences=(self._pad,), wanted=False, cell=at) for at in range(_PAGE)]
        )
        page = self.saved(self._pad)
        self._remove(self._pad)
        return page

    def saved(self, sequence: int) -> c.Array[c.c_char]:
        """A sequence's tokens, keys and values, in the library's format."""
        size = self._api.llama_state_seq_get_size(self.handle, sequence)
        state = c.create_string_buffer(size)
        if self._api.llama_state_seq_get_data(self.handle, state, size, sequence) != size:
            raise self._api.mismatch("a saved state has another size")
        return state

    def restore(self, sequence: int, cells: Sequence[int], state: bytes) -> bool:
        """Load a saved sequence into `cells`, which ascend from `top`; False where that fails, and a `flush` is due."""
        if cells[-1] - self._top >= _SPAN:
            return False
        self.reserve(cells[-1] + 1)
        self.release(cells)
        return bool(self._api.llama_state_seq_set_data(self.handle, state, len(state), sequence) == len(state))

    def copy(self, source: int, target: int, length: int) -> None:
        """Let `target` begin with the first `length` tokens of `source`; the cells are shared, not copied."""
        self._api.llama_memory_seq_cp(self._memory, source, target, 0, length)

    def bury(self, sequence: int) -> None:
        """Drop a sequence; its cells stay occupied until the next `flush`."""
        # Freed at once, the cells would be the lowest free ones and take the next rows out of their planned lanes.
        self._api.llama_memory_seq_cp(self._memory, sequence, self._buried, -1, -1)
        self._remove(sequence)

    def keep_below(self, floor: int) -> None:
        """Keep the placeholders below `floor` over every `flush`: they lie among primed prefixes."""
        for first, page in self._pages:
            if first < floor:
                self._api.llama_memory_seq_cp(self._memory, page, self._buried_primed, 0, floor - first)
        self._api.llama_memory_seq_cp(self._memory, self._buried, self._buried_primed, -1, -1)

    def flush(self, *, drop: Iterable[int], floor: int) -> None:
        """Free every cell from `floor` on. All sequences that reach above it are in `drop`, or forks."""
        for sequence in (*drop, *self.forks, self._buried):
            self._remove(sequence)
        self._cut(floor)
        if not self._padded:
            self._remove(self._pad)
            self._lay_pad()
            self._remove(self._pad, 1)

    def drop_forks(self, top: int) -> None:
        """Free every cell from `top` on, all of which belong to forks."""
        for sequence in self.forks:
            self._remove(sequence)
        self._cut(top)

    def _cut(self, top: int) -> None:
        """Free the placeholders from `top` on; those below it stay occupied without a page."""
        for first, page in self._pages:
            if first < top:
                self._api.llama_memory_seq_cp(self._memory, page, self._buried, 0, top - first)
            self._remove(page)
            self._free_pages.append(page)
        self._pages.clear()
        self._top = self._filled = top

    @property
    def top(self) -> int:
        """The first cell that was never allocated."""
        return self._top

    def evaluate(self, rows: Sequence[PrefixRow]) -> dict[int, Logits]:
        """Logits of the wanted rows, by row number. The rows' cells ascend from `top`.

        Raises EngineTimeout when stopped, EngineUnavailable when the library fails; then a `flush` is due.
        """
        found: dict[int, Logits] = {}
        for first, chunk in self._chunks(rows):
            cells = [row.cell for row in chunk]
            self.reserve(cells[-1] + 1)
            self.release(cells)
            self._stop.check()
            self.begun += len(chunk)
            found |= {first + at: logits for at, logits in self._decode(chunk).items()}
        return found

    def step(self, rows: Sequence[PrefixRow]) -> dict[int, Logits]:
        """Like `evaluate`, for at most _ROWS rows in any order, whose cells were reserved before."""
        ordered = sorted(range(len(rows)), key=lambda at: rows[at].cell)
        self.release([rows[at].cell for at in ordered])
        found = self._decode([rows[at] for at in ordered])
        return {ordered[at]: logits for at, logits in found.items()}

    def reserve(self, top: int) -> None:
        """Allocate all cells below `top`: they are occupied from now on, if only by placeholders."""
        while self._filled < top:
            if not self._free_pages:
                self._recycle()
            page = self._free_pages.pop()
            self._put(page)
            self._pages.append((self._filled, page))
            self._filled += _PAGE
        self._top = max(self._top, top)

    def release(self, cells: Sequence[int]) -> None:
        """Free reserved cells, ascending, for the rows about to be evaluated."""
        at = 0
        while at < len(cells):
            first, page = self._pages[bisect_right(self._pages, (cells[at], self._width)) - 1]
            end = at + 1
            while end < len(cells) and cells[end] == cells[end - 1] + 1 and cells[end] < first + _PAGE:
                end += 1
            self._remove(page, cells[at] - first, cells[end - 1] + 1 - first)
            at = end

    def _recycle(self) -> None:
        """Reuse the pages that lie below `top`; their remaining cells stay occupied."""
        below = [(first, page) for first, page in self._pages if first + _PAGE <= self._top]
        if not below:
            raise EngineUnavailable("Too many cells are asked for at once.")
        for _, page in below:
            self.bury(page)
            self._free_pages.append(page)
        self._pages = self._pages[len(below) :]

    def _lay_pad(self) -> None:
        """Place the padding row, and placeholders behind it, into the lowest free cells."""
        self._put(self._pad)
        self._padded = True

    def _put(self, sequence: int) -> None:
        """Place a page of placeholders into the lowest free cells."""
        size = len(self._placeholders)
        if self._api.llama_state_seq_set_data(self.handle, self._placeholders, size, sequence) != size:
            raise EngineUnavailable("The model's cache is full.")

    def close(self) -> None:
        if self.handle:
            self._api.llama_free(self.handle)
            self.handle = 0

    def _remove(self, sequence: int, start: int = -1, end: int = -1) -> None:
        self._api.llama_memory_seq_rm(self._memory, sequence, start, end)

    def _chunks(self, rows: Sequence[PrefixRow]) -> Iterator[tuple[int, list[PrefixRow]]]:
        """Split rows into decodes that fit the batch and the placeholder pages; yields the first row's number with
        each."""
        chunk: list[PrefixRow] = []
        for number, row in enumerate(rows):
            if chunk and (len(chunk) == _ROWS or row.cell - chunk[0].cell >= _SPAN):
                yield number - len(chunk), chunk
                chunk = []
            chunk.append(row)
        if chunk:
            yield len(rows) - len(chunk), chunk

    def _decode(self, rows: Sequence[PrefixRow]) -> dict[int, Logits]:
        """Run one llama_decode. A single row uses other kernels than several, so there are always at least two rows,
        and two outputs if there is one: the padding row is evaluated anew into its own cell, and attends only to
        itself."""
        self._stop.check()
        padding = (
            [PrefixRow(token=0, position=0, sequences=(self._pad,), wanted=False, cell=0)] if len(rows) < 2 else []
        )
        if padding:
            self._remove(self._pad)
            self._padded = False
        padded = [*padding, *rows]
        self._batch.n_tokens = len(padded)
        self._tokens[: len(padded)] = [row.token for row in padded]
        self._positions[: len(padded)] = [row.position for row in padded]
        self._counts[: len(padded)] = [len(row.sequences) for row in padded]
        outputs = [row.wanted for row in padded]
        if sum(outputs) == 1:
            outputs[outputs.index(False)] = True
        self._outputs[: len(padded)] = outputs
        for at, row in enumerate(padded):
            self._ids[at, : len(row.sequences)] = row.sequences
        code = self._api.llama_decode(self.handle, self._batch)
        if code == _ABORTED:
            raise EngineTimeout("The model was stopped at its deadline.")
        if code:
            raise EngineUnavailable(f"The model could not evaluate a batch (llama.cpp code {code}).")
        self._padded = True
        return {at: self._logits(len(padding) + at) for at, row in enumerate(rows) if row.wanted}

    def _logits(self, row: int) -> Logits:
        address = self._api.llama_get_logits_ith(self.handle, row)
        if not address:
            raise EngineUnavailable("The model gave no answer for a token.")
        logits: Logits = np.ctypeslib.as_array((c.c_float * self.model.vocabulary).from_address(address)).copy()
        # One pass: a NaN or an infinity anywhere makes the sum one, too.
        if not np.isfinite(logits.sum()):
            raise EngineUnavailable("The model answered with numbers that are not finite.")
        return logits
