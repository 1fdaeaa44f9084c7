"""The words of a GGUF file without its weights, read by the embedded engine's library: the same text gives the same
tokens on both engines."""

from __future__ import annotations

from pathlib import Path

from agent.llm.llamacpp.abi import Library, LogCallback
from agent.llm.llamacpp.context import Model
from market.errors import NotReady

_SILENT = LogCallback(lambda *_: None)
"""llama.cpp keeps the address of one log callback for the whole process, so it must be one that never goes away."""


def library(setting: str = "auto") -> Library:
    """The libllama that `setting` names, silenced for good."""
    loaded = Library(setting)
    loaded.llama_log_set(_SILENT, None)
    return loaded


class Vocabulary(Model):
    """Turns text into tokens and back. Raises NotReady when the library or the file is missing."""

    def __init__(self, path: Path, setting: str = "auto") -> None:
        self.library = library(setting)
        params = self.library.llama_model_default_params()
        params.n_gpu_layers, params.vocab_only = 0, True
        self.handle = self.library.llama_model_load_from_file(str(path).encode(), params)
        if not self.handle:
            raise NotReady(f"{path.name} cannot be loaded as a GGUF model.", next_step="Install the model again.")
        self._vocab = self.library.llama_model_get_vocab(self.handle)
        self.vocabulary = self.library.llama_vocab_n_tokens(self._vocab)

    def close(self) -> None:
        self.library.llama_log_set(_SILENT, None)  # another user of the library may have come and gone
        super().close()
