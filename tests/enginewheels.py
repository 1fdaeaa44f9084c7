"""Wheels of a stand-in for MLC-LLM: a real package with a command line that compiles to a file and serves over HTTP.

It has the commands, options and addresses of the real one that the installer uses, and none of its intelligence.
"""

from __future__ import annotations

import base64
import hashlib
import zipfile
from pathlib import Path

TVM = """
class device:
    def __init__(self, name):
        self.exist = name == "vulkan:0"
"""

ENGINE = """
import argparse, json, os, pathlib, sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer

import needed_by_engine

ANSWER = {answer!r}
GRUMPY = {grumpy!r}


def compiled(args):
    config = json.loads(pathlib.Path(args.model).read_text())
    assert os.environ["MLC_JIT_POLICY"] == "OFF"
    if config.get("broken"):
        sys.exit("Cannot find compilation output")
    if config.get("slow"):
        pathlib.Path(args.output + ".begun").write_text(str(os.getpid()))
        time.sleep(120)
    pathlib.Path(args.output).write_text(json.dumps([args.quantization, args.device, args.overrides, {version!r}]))


def served(args):
    made = json.loads(pathlib.Path(args.model_lib).read_text())
    assert made[1] == args.device and (pathlib.Path(args.model) / "mlc-chat-config.json").is_file()
    if GRUMPY:
        sys.exit("Insufficient GPU memory")

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def answer(self, body):
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self):
            self.answer(b"engine_up\\t1\\n") if self.path == "/metrics" else self.send_error(404)

        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert self.path == "/v1/completions" and asked["temperature"] == 0 and asked["max_tokens"] > 0
            assert asked["prompt"].startswith("<|begin_of_text|>")
            self.answer(json.dumps({{"choices": [{{"text": ANSWER, "finish_reason": "length"}}]}}).encode())

    HTTPServer((args.host, args.port), Handler).serve_forever()


parser = argparse.ArgumentParser("mlc_llm")
verbs = parser.add_subparsers(required=True)
make = verbs.add_parser("compile")
make.add_argument("model")
make.add_argument("--device", required=True)
make.add_argument("--quantization", required=True)
make.add_argument("--overrides", required=True)
make.add_argument("-o", dest="output", required=True)
make.set_defaults(run=compiled)
run = verbs.add_parser("serve")
run.add_argument("model")
run.add_argument("--model-lib", required=True)
run.add_argument("--device", required=True)
run.add_argument("--mode", required=True)
run.add_argument("--overrides", required=True)
run.add_argument("--host", required=True)
run.add_argument("--port", type=int, required=True)
run.set_defaults(run=served)
if __name__ == "__main__":
    chosen = parser.parse_args()
    chosen.run(chosen)
"""


def wheel(folder: Path, name: str, version: str, files: dict[str, str], needs: tuple[str, ...] = ()) -> Path:
    """Build a pure-Python wheel."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{name.replace('-', '_')}-{version}"
    about = [
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        *(f"Requires-Dist: {one}\n" for one in needs),
    ]
    members = {
        **files,
        f"{stem}.dist-info/METADATA": "".join(about),
        f"{stem}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},sha256={_digest(text)},{len(text.encode())}\n" for path, text in members.items())
    made = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(made, "w") as archive:
        for path, text in members.items():
            archive.writestr(path, text)
        archive.writestr(f"{stem}.dist-info/RECORD", f"{record}{stem}.dist-info/RECORD,,\n")
    return made


def pair(folder: Path, version: str = "0.20.dev1", answer: str = " Paris.", *, grumpy: bool = False) -> None:
    """The two wheels of one build, as an index of nightly wheels has them."""
    engine = ENGINE.format(answer=answer, version=version, grumpy=grumpy)
    wheel(
        folder,
        "mlc-llm-nightly-cpu",
        version,
        {"mlc_llm/__init__.py": "", "mlc_llm/__main__.py": engine},
        ("needed-by-engine>=1",),
    )
    wheel(folder, "mlc-ai-nightly-cpu", version, {"tvm/__init__.py": TVM})


def needed(folder: Path) -> None:
    """Wheel of the engine's dependency, as in the general index."""
    wheel(folder, "needed-by-engine", "1.4", {"needed_by_engine.py": ""})


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
