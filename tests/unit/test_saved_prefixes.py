"""Prefixes on disk: found again whole or not at all, few in number, never fatal."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.llm.llamacpp.saved import KEPT, SavedPrefixes, State

BLOCKS = ((1, 2, 3), (4, 5))
STATE = State(b"state of a sequence", np.arange(5, dtype=np.float32))


def store(folder: Path) -> SavedPrefixes:
    return SavedPrefixes(folder, ("model", "library"), vocabulary=5)


def test_what_was_kept_is_found(tmp_path: Path) -> None:
    saved = store(tmp_path / "new" / "folder")
    assert saved.find(BLOCKS, 8) is None
    saved.keep(BLOCKS, 8, STATE)
    found = saved.find(BLOCKS, 8)
    assert found is not None and found.state == STATE.state and found.logits.tolist() == STATE.logits.tolist()
    assert [path.suffix for path in saved.folder.iterdir()] == [".prefix"]


def test_another_model_prompt_or_place_finds_nothing(tmp_path: Path) -> None:
    saved = store(tmp_path)
    saved.keep(BLOCKS, 8, STATE)
    assert saved.find(((1, 2, 3), (4, 6)), 8) is None
    assert saved.find(((1, 2), (3, 4, 5)), 8) is None
    assert saved.find(BLOCKS, 16) is None
    assert replace(saved, made_by=("model", "newer library")).find(BLOCKS, 8) is None
    (file,) = tmp_path.iterdir()
    other = replace(saved, made_by=("other", "library"))
    other.keep(BLOCKS, 8, STATE)
    renamed = next(path for path in tmp_path.iterdir() if path != file)
    renamed.replace(file)  # a file under another one's name
    assert saved.find(BLOCKS, 8) is None


@given(st.data())
def test_a_damaged_file_is_passed_over(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    saved = store(tmp_path_factory.mktemp("damaged"))
    saved.keep(BLOCKS, 8, STATE)
    (path,) = saved.folder.iterdir()
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[at] ^= data.draw(st.integers(1, 255))
    else:
        del content[at:]
    path.write_bytes(content)
    assert saved.find(BLOCKS, 8) is None
    saved.keep(BLOCKS, 8, STATE)
    assert saved.find(BLOCKS, 8) is not None


def test_the_longest_unused_go_first(tmp_path: Path) -> None:
    saved = store(tmp_path)
    for number in range(KEPT):
        saved.keep(((number,),), 8, STATE)
        path = max(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        os.utime(path, (number, number))
    assert saved.find(((0,),), 8) is not None  # used just now
    saved.keep(((99,),), 8, STATE)
    assert len(list(tmp_path.iterdir())) == KEPT
    assert saved.find(((0,),), 8) is not None and saved.find(((1,),), 8) is None


def test_a_folder_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    saved = store(tmp_path / "file")
    saved.keep(BLOCKS, 8, STATE)
    assert saved.find(BLOCKS, 8) is None
