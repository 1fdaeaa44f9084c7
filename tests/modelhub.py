"""Loopback model hub and wheel index over real HTTP, with injected server faults."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "c0ffee" + "0" * 34


@dataclass
class ModelHub:
    """`files` is the content of one repository; those in `large` are listed by SHA-256, as Git LFS files are.

    `faults` are taken one per request of a file: an HTTP status ("503"), "cut:N" (ends after N bytes), "stall:N" (falls
    silent there), "whole" (ignores the range), "wrong" (other bytes), "more" (too many bytes), "redirect:URL".
    """

    files: dict[str, bytes]
    large: frozenset[str] = frozenset()
    wheels: Path | None = None
    page: int = 1000
    base: str = ""
    faults: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    seen: list[tuple[str, str]] = field(default_factory=list)
    stalled: threading.Event = field(default_factory=threading.Event)

    def listing(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": "extra"}]
        for path, content in self.files.items():
            # The id that Git gives a blob, by which the hub lists small files.
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
            row: dict[str, Any] = {"type": "file", "oid": blob, "size": len(content), "path": path}
            if path in self.large:
                row["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
            rows.append(row)
        return rows


@contextmanager
def serving(hub: ModelHub) -> Iterator[ModelHub]:
    """Serve the hub on a free loopback port, at `hub.base`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    # A short poll interval: `shutdown` waits for the next poll.
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    hub.base = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        # Wakes handlers that a fault has stalled, before the server is shut down.
        hub.stalled.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: ModelHub

    def log_message(self, *args: object) -> None:
        """Silent."""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        where = unquote(parts.path).strip("/").split("/")
        self.hub.seen.append((unquote(parts.path), self.headers.get("Range", "")))
        if where[0] == "wheels":
            self._wheels(where[1:])
        elif "revision" in where:
            self._say(json.dumps({"sha": COMMIT, "id": "x"}).encode())
        elif "tree" in where:
            self._tree(int(parse_qs(parts.query).get("cursor", ["0"])[0]))
        elif "resolve" in where:
            self._file("/".join(where[where.index("resolve") + 2 :]))
        else:
            self._say(b"", 404)

    def _wheels(self, rest: list[str]) -> None:
        assert self.hub.wheels is not None
        if rest:
            self._say((self.hub.wheels / rest[0]).read_bytes())
            return
        links = "".join(f'<a href="/wheels/{path.name}">{path.name}</a>' for path in self.hub.wheels.glob("*.whl"))
        self._say(f"<!DOCTYPE html><html><body>{links}</body></html>".encode(), kind="text/html")

    def _tree(self, start: int) -> None:
        rows, end = self.hub.listing(), start + self.hub.page
        more = f'<{self.hub.base}{urlsplit(self.path).path}?recursive=true&cursor={end}>; rel="next"'
        link = {"Link": more} if end < len(rows) else {}
        self._say(json.dumps(rows[start:end]).encode(), headers=link)

    def _file(self, path: str) -> None:
        content, faults = self.hub.files.get(path), self.hub.faults[path]
        fault, _, detail = (faults.pop(0) if faults else "").partition(":")
        if fault == "redirect":
            self._say(b"", 302, headers={"Location": detail})
        elif fault.isdecimal() or content is None:
            self._say(b"", int(fault or 404), headers={"Retry-After": detail} if detail else {})
        else:
            self._content(content, fault, detail)

    def _content(self, content: bytes, fault: str, detail: str) -> None:
        if fault == "wrong":
            content = bytes(byte ^ 1 for byte in content)
        asked = self.headers.get("Range", "")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and fault != "whole" else 0
        part = content[start:] + (b"more" if fault == "more" else b"")
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(part)))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        self.wfile.write(part[: int(detail)] if fault in ("cut", "stall") else part)
        if fault == "stall":
            self.wfile.flush()
            self.hub.stalled.wait(20)

    def _say(
        self, body: bytes, status: int = 200, kind: str = "application/json", headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
