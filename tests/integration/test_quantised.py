"""The installed model on the pinned library against the same weights as plain float16, on 300 tokens of text.

The limits are a few times what was measured, and a broken kernel or a misread format is far beyond them.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from agent.llm.gguf import TensorKind, read_gguf, requantise
from agent.llm.golden import compared
from tests.engines import model_file

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The installed weights as float16."""
    path = tmp_path_factory.mktemp("plain") / "f16.gguf"
    requantise(model_file(), path, kind=TensorKind.F16)
    return path


def test_the_installed_model_answers_as_its_weights_say(plain: Path) -> None:
    result = compared(plain, model_file())
    assert result.divergence < 0.01 and result.same_order
    expected, found = result.perplexities
    assert expected < 40 and found == pytest.approx(expected, rel=0.03)


def test_nibbles_lose_what_they_are_known_to_lose(plain: Path, tmp_path: Path) -> None:
    """Q4_0 of this model is readable and worse: wrong levels or a wrong kernel would be much further off."""
    requantise(model_file(), tmp_path / "q4_0.gguf", kind=TensorKind.Q4_0)
    result = compared(plain, tmp_path / "q4_0.gguf")
    assert 0.05 < result.divergence < 0.8
    assert result.perplexities[1] < 2 * result.perplexities[0]


def test_one_damaged_matrix_is_noticed(plain: Path, tmp_path: Path) -> None:
    """Effect of a wrong kernel: one matrix of thirty layers with its levels in another order."""
    path = tmp_path / "damaged.gguf"
    shutil.copy(model_file(), path)
    model = read_gguf(path)
    begin = path.stat().st_size - len(model.data)
    tensor = next(t for t in model.tensors if t.name == "blk.14.ffn_down.weight")
    blocks = model.raw(tensor).reshape(-1, 34).copy()
    blocks[:, 2:] = np.roll(blocks[:, 2:], 1, axis=1)
    with path.open("r+b") as file:
        file.seek(begin + tensor.offset)
        file.write(blocks.tobytes())
    assert compared(plain, path).divergence > 0.01
