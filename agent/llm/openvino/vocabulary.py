"""Vocabulary of a GGUF file without its weights, read by the embedded engine's library: the same text gives the same
tokens on both engines."""

from __future__ import annotations

from pathlib import Path

from agent.llm.llamacpp.abi import Library
from agent.llm.llamacpp.context import Model
from market.errors import NotReady


class TokenVocabulary(Model):
    """Tokenizer of a GGUF file. Raises NotReady when the library or the file is missing."""

    def __init__(self, path: Path, setting: str = "auto") -> None:
        self.library = Library(setting)
        params = self.library.llama_model_default_params()
        params.n_gpu_layers, params.vocab_only = 0, True
        self.handle = self.library.llama_model_load_from_file(str(path).encode(), params)
        if not self.handle:
            raise NotReady(f"{path.name} cannot be loaded as a GGUF model.", next_step="Install the model again.")
        self._vocab = self.library.llama_model_get_vocab(self.handle)
        self.vocabulary = self.library.llama_vocab_n_tokens(self._vocab)
