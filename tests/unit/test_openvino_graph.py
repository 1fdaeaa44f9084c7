"""The OpenVINO graph against the same network written down in numpy, on a small random model the test makes itself."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from agent.llm.gguf import Gguf, TensorKind, quantised, read_gguf
from agent.llm.openvino import runtime
from agent.llm.openvino.architecture import Architecture, architecture, metadata
from agent.llm.openvino.network import Network, Precision, Saved, loaded
from agent.llm.openvino.tree import CacheRequest, CacheTree, Tokens
from market.errors import EngineTimeout, EngineUnavailable, NotReady
from tests.unit.test_gguf import number, text

Wide = NDArray[np.float64]

LAYERS, HEADS, GROUPS, WIDTH, HIDDEN, WORDS = 2, 4, 2, 16, 96, 40
INNER = HEADS * WIDTH
SHAPES = {
    "attn_q": (INNER, INNER),
    "attn_k": (INNER, GROUPS * WIDTH),
    "attn_v": (INNER, GROUPS * WIDTH),
    "attn_output": (INNER, INNER),
    "ffn_gate": (INNER, HIDDEN),
    "ffn_up": (INNER, HIDDEN),
    "ffn_down": (HIDDEN, INNER),
}
EIGHT_BITS = any(name in Path("/proc/cpuinfo").read_text() for name in ("vnni", "amx_int8"))
"""Whether the processor multiplies eight-bit numbers; OpenVINO reckons in 32 bits on one that does not."""
needs_openvino = pytest.mark.skipif(not runtime.installed(), reason=f"OpenVINO is not installed ({runtime.INSTALL})")


def real(key: str, value: float) -> bytes:
    return text(key) + struct.pack("<If", 6, value)


def word(key: str, value: str) -> bytes:
    return text(key) + struct.pack("<I", 8) + text(value)


def header(family: str = "llama") -> list[bytes]:
    return [
        word("general.architecture", family),
        text("tokenizer.words") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("bc"),
        text("tokenizer.scores") + struct.pack("<IIQ2f", 9, 6, 2, 0.5, 1.5),
        number("llama.block_count", LAYERS),
        number("llama.embedding_length", INNER),
        number("llama.attention.head_count", HEADS),
        number("llama.attention.head_count_kv", GROUPS),
        real("llama.rope.freq_base", 1000.0),
        real("llama.attention.layer_norm_rms_epsilon", 1e-5),
    ]


def packed(values: NDArray[np.float32], kind: TensorKind) -> bytes:
    if kind is TensorKind.Q8_0:
        return quantised(values).tobytes()
    return values.astype(np.float16 if kind is TensorKind.F16 else np.float32).tobytes()


def model_file(
    path: Path,
    kind: TensorKind = TensorKind.Q8_0,
    *,
    pairs: Sequence[bytes] | None = None,
    leave_out: str = "",
    extra: str = "",
) -> Path:
    chance = np.random.default_rng(11)
    tensors: dict[str, tuple[tuple[int, ...], TensorKind]] = {"token_embd.weight": ((INNER, WORDS), kind)}
    for layer in range(LAYERS):
        tensors |= {f"blk.{layer}.{name}.weight": (shape, kind) for name, shape in SHAPES.items()}
        tensors |= {f"blk.{layer}.{name}_norm.weight": ((INNER,), TensorKind.F32) for name in ("attn", "ffn")}
    tensors |= {"output_norm.weight": ((INNER,), TensorKind.F32), "output.weight": ((INNER, WORDS), kind)}
    tensors |= {"rope_freqs.weight": ((WIDTH // 2,), TensorKind.F32)} | (
        {extra: ((8,), TensorKind.F32)} if extra else {}
    )
    tensors.pop(leave_out, None)
    names, data = b"", b""
    for name, (shape, stored) in tensors.items():
        values = chance.normal(0, 0.3, int(np.prod(shape))).astype(np.float32)
        raw = packed(values if len(shape) > 1 else np.abs(values) + 1, stored)
        names += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, stored, len(data))
        data += raw + b"\0" * (-len(raw) % 32)
    told = header() if pairs is None else pairs
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(told)) + b"".join(told) + names
    path.write_bytes(head + b"\0" * (-len(head) % 32) + data)
    return path


class Plain:
    """The network in float64, one prompt at a time and from its first token."""

    def __init__(self, model: Gguf) -> None:
        self._weights = {t.name: model.values(t).reshape(t.shape[::-1]).astype(np.float64) for t in model.tensors}

    def logits(self, tokens: Tokens) -> Wide:
        rows = self._of("token_embd")[list(tokens)]
        for at in (f"blk.{layer}." for layer in range(LAYERS)):
            rows = rows + self._attended(self._normed(rows, f"{at}attn_norm"), at) @ self._of(f"{at}attn_output").T
            seen = self._normed(rows, f"{at}ffn_norm")
            gate = seen @ self._of(f"{at}ffn_gate").T
            grown = gate / (1 + np.exp(-gate)) * (seen @ self._of(f"{at}ffn_up").T)
            rows = rows + grown @ self._of(f"{at}ffn_down").T
        found: Wide = self._normed(rows, "output_norm") @ self._of("output").T
        return found

    def _of(self, name: str) -> Wide:
        return self._weights[f"{name}.weight"]

    def _normed(self, rows: Wide, name: str) -> Wide:
        scaled: Wide = rows / np.sqrt((rows**2).mean(-1, keepdims=True) + 1e-5) * self._of(name)
        return scaled

    def _attended(self, seen: Wide, at: str) -> Wide:
        query = self._rotated((seen @ self._of(f"{at}attn_q").T).reshape(-1, HEADS, WIDTH))
        key = self._rotated((seen @ self._of(f"{at}attn_k").T).reshape(-1, GROUPS, WIDTH))
        value = (seen @ self._of(f"{at}attn_v").T).reshape(-1, GROUPS, WIDTH)
        heads = []
        for head in range(HEADS):
            group = head * GROUPS // HEADS
            weight = query[:, head] @ key[:, group].T / np.sqrt(WIDTH)
            weight = np.where(np.tri(len(seen), dtype=bool), weight, -np.inf)
            weight = np.exp(weight - weight.max(-1, keepdims=True))
            heads.append(weight / weight.sum(-1, keepdims=True) @ value[:, group])
        return np.concatenate(heads, axis=-1)

    def _rotated(self, heads: Wide) -> Wide:
        """Neighbouring places of a head turn together, as the file keeps them."""
        speed = 1000.0 ** (-np.arange(0, WIDTH, 2) / WIDTH) / self._of("rope_freqs")
        angle = np.arange(len(heads))[:, None, None] * speed
        turned = np.empty_like(heads)
        turned[..., 0::2] = heads[..., 0::2] * np.cos(angle) - heads[..., 1::2] * np.sin(angle)
        turned[..., 1::2] = heads[..., 0::2] * np.sin(angle) + heads[..., 1::2] * np.cos(angle)
        return turned


def asked(network: Network, tree: CacheTree, prompts: Sequence[Tokens]) -> list[NDArray[np.float32]]:
    """Each prompt's last logits, all wanted at once and none of them known."""
    (step,) = tree.steps([CacheRequest(tokens) for tokens in prompts])
    rows = network.evaluate(tree, step.rows)
    answers = [row.answers for row in step.rows if row.answers >= 0]
    return [rows[answers.index(cells[-1])] for cells in step.asked.values()]


@needs_openvino
@pytest.mark.parametrize("kind", [TensorKind.Q8_0, TensorKind.F16, TensorKind.F32])
def test_a_tree_of_prompts_answers_as_each_prompt_alone(kind: TensorKind, tmp_path: Path) -> None:
    path = model_file(tmp_path / "tiny.gguf", kind)
    plain, network, tree = Plain(read_gguf(path)), loaded(path, Precision.F32, 1), CacheTree(512)
    trunk = tuple(np.random.default_rng(2).integers(0, WORDS, 80).tolist())  # more than one inference takes
    for prompts in ([trunk], [(*trunk, 1, 2), (*trunk, 1, 3, 4), (*trunk[:7], 9), (5,)], [(*trunk, 1, 3, 4, 6)]):
        for tokens, found in zip(prompts, asked(network, tree, prompts), strict=True):
            assert np.allclose(found, plain.logits(tokens)[-1], atol=2e-3)


@needs_openvino
def test_logits_along_a_prompt_and_rounding(tmp_path: Path) -> None:
    path = model_file(tmp_path / "tiny.gguf")
    tokens = tuple(range(30))
    expected = Plain(read_gguf(path)).logits(tokens)[-5:]
    worst = {}
    for precision in (Precision.F32, Precision.INT8):
        network, tree = loaded(path, precision, 1), CacheTree(64)
        (step,) = tree.steps([CacheRequest(tokens, last=5)])
        worst[precision] = float(np.abs(np.array(network.evaluate(tree, step.rows)) - expected).max())
    assert worst[Precision.F32] < 2e-3 and worst[Precision.INT8] < 1.0
    assert worst[Precision.INT8] > 2e-3 or not EIGHT_BITS, "where the processor can, it rounds"


@needs_openvino
def test_a_saved_cache_comes_back_to_the_bit(tmp_path: Path) -> None:
    network, tree = loaded(model_file(tmp_path / "tiny.gguf"), Precision.F32, 1), CacheTree(64)
    asked(network, tree, [(1, 2, 3, 4)])
    saved = network.saved()
    first = asked(network, tree, [(1, 2, 3, 4, 5), (1, 2, 3, 4, 6)])
    tree.cut(4)
    network.back(saved)
    again = asked(network, tree, [(1, 2, 3, 4, 5), (1, 2, 3, 4, 6)])
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    tree.cut(0)
    network.back(Saved(0))
    assert np.allclose(asked(network, tree, [(1, 2, 3, 4, 5)])[0], first[0], atol=1e-4)


@needs_openvino
def test_a_failing_library_is_said_and_stays_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, tree = loaded(model_file(tmp_path / "tiny.gguf"), Precision.F32, 1), CacheTree(64)
    monkeypatch.setattr(network, "stop", Expired())
    with pytest.raises(EngineTimeout):
        asked(network, tree, [(1, 2)])
    monkeypatch.undo()
    tree.cut(0)
    asked(network, tree, [(1, 2, 3, 4)])
    network.back(Saved(4, tuple(part[:, 0] for part in network.saved().parts)))  # a dimension short
    with pytest.raises(EngineUnavailable, match="OpenVINO failed"):
        asked(network, tree, [(1, 2, 3, 4, 5)])
    with pytest.raises(EngineUnavailable, match="OpenVINO failed"):
        asked(network, CacheTree(64), [(1,)])


class Expired:
    """A stop whose time has come."""

    def check(self) -> None:
        raise EngineTimeout("The model was stopped at its deadline.")


def test_the_header_says_what_the_network_is(tmp_path: Path) -> None:
    model = read_gguf(model_file(tmp_path / "tiny.gguf"))
    assert metadata(model)["general.architecture"] == "llama"
    epsilon = float(np.float32(1e-5))
    assert architecture(model) == Architecture(LAYERS, HEADS, GROUPS, WIDTH, epsilon, 1000.0)


Refused = Callable[[Path], Path]


@needs_openvino
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: model_file(path, pairs=header("gemma")), "llama family, not gemma"),
        (lambda path: model_file(path, pairs=header()[:3]), "does not say what its network is"),
        (lambda path: model_file(path, pairs=[*header(), number("llama.rope.dimension_count", 8)]), "rotates"),
        (lambda path: model_file(path, leave_out="blk.1.ffn_up.weight"), r"no tensor blk\.1\.ffn_up"),
        (lambda path: model_file(path, extra="blk.0.attn_q.bias"), r"attn_q\.bias, which is not part"),
    ],
)
def test_another_network_is_refused_in_a_sentence(make: Refused, said: str, tmp_path: Path) -> None:
    with pytest.raises(NotReady, match=said):
        loaded(make(tmp_path / "tiny.gguf"), Precision.F32, 1)


@needs_openvino
def test_importing_the_library_tells_nobody(tmp_path: Path) -> None:
    """A stand-in for the telemetry package, first on the path, must never be imported; nothing may open a socket."""
    (tmp_path / "openvino_telemetry.py").write_text("raise SystemExit('telemetry was imported')\n")
    code = (
        "import sys\n"
        "def heard(event, _):\n"
        "    if event.startswith('socket.') or event == 'subprocess.Popen': sys.exit(event)\n"
        "sys.addaudithook(heard)\n"
        "from agent.llm.openvino import runtime\n"
        "assert runtime.load_openvino().Core().available_devices\n"
    )
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}", "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert not (tmp_path / "intel").exists()


@needs_openvino
def test_a_signal_after_two_networks_were_let_go_reaches_its_handler(tmp_path: Path) -> None:
    """In a process of its own, which the library would take down: see `runtime.core`."""
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from agent.llm.openvino.network import Precision, loaded\n"
        "for precision in Precision:\n"
        "    network = loaded(Path(sys.argv[1]), precision, 1)\n"
        "del network\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
    )
    path = model_file(tmp_path / "tiny.gguf")
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (7, "")
