"""A web server on this machine that misbehaves as told."""

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from sonosynth.core.download import RemoteFile, RetryPolicy

SHORT = RetryPolicy(connect_timeout=2, read_timeout=0.5, max_attempts=3, backoff=0.01, max_backoff=0.05)
CONTENT = np.random.default_rng(0).integers(0, 256, 300_000, dtype=np.uint8).tobytes()


@dataclass
class Server:
    """Serves files, and misbehaves as told: `faults` are used up one a request, then it behaves."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    always: str = ""
    ranges: bool = True
    tag: str | None = '"one"'
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def file(self, name: str = "x.bin", content: bytes = CONTENT, **known: object) -> RemoteFile:
        self.files[name] = content
        return RemoteFile(f"{self.url}/{name}", name, **known)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "*")
    state = Server()
    released = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            answer(self, state, released)

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{http.server_address[1]}"
    yield state
    released.set()
    http.shutdown()
    http.server_close()
    thread.join()


def answer(request: BaseHTTPRequestHandler, state: Server, released: threading.Event) -> None:
    asked = request.headers.get("Range")
    state.asked.append((request.path, asked))
    fault = state.faults.pop(0) if state.faults else state.always
    if fault.isdecimal():
        request.send_response(int(fault))
        request.send_header("Retry-After", "1000")
        request.send_header("Content-Length", "0")
        request.end_headers()
        return
    content = state.files[request.path[1:]]
    start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and state.ranges else 0
    if asked and request.headers.get("If-Range", state.tag) != state.tag:
        start = 0
    if start and start >= len(content):
        request.send_response(416)
        request.send_header("Content-Range", f"bytes */{len(content)}")
        request.send_header("Content-Length", "0")
        request.end_headers()
        return
    body = content[start:]
    request.send_response(206 if start else 200)
    if start:
        first = start + 1 if fault == "wrong part" else start
        request.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
    declared = len(body) + {"claims more": 1000, "claims less": -1000}.get(fault, 0)
    if fault not in ("no length", "no length, drop"):
        request.send_header("Content-Length", str(declared))
    if state.tag:
        request.send_header("ETag", state.tag)
    if fault == "gzip":
        request.send_header("Content-Encoding", "gzip")
    request.end_headers()
    request.close_connection = True
    part = body[: len(body) // 2] if fault in ("drop", "stall", "no length, drop") else body[:declared]
    if fault == "trickle":
        for i in range(200):
            if released.wait(0.02):
                return
            request.wfile.write(body[i : i + 1])
            request.wfile.flush()
        return
    request.wfile.write(part)
    request.wfile.flush()
    if fault == "stall":
        released.wait(5)


def checksum(content: bytes = CONTENT, kind: str = "md5") -> str:
    return f"{kind}:{hashlib.new(kind, content).hexdigest()}"
