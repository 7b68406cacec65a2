"""A registry with one image, over loopback HTTP: as much of the distribution API as an engine asks for."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from tests.support.engine import busybox_tar

if TYPE_CHECKING:
    from collections.abc import Iterator

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
CHUNK_BYTES = 64 * 1024


class Registry:
    """Serves `pulled:1`, and holds the last part of its layer back until `go_on` is set.

    Attributes:
        image: What a task has to ask for.
        blobs_served: How many blobs were fetched to their end.

    """

    def __init__(self) -> None:
        tar = busybox_tar(os.urandom(16))  # a layer that no engine has yet
        layer = gzip.compress(tar, compresslevel=1)
        config = json.dumps(
            {
                "architecture": "amd64" if os.uname().machine == "x86_64" else "arm64",
                "os": "linux",
                "config": {"Cmd": ["echo", "pulled"], "Env": ["PATH=/bin"]},
                "rootfs": {"type": "layers", "diff_ids": [_digest(tar)]},
                "history": [{"created": "2026-01-01T00:00:00Z", "created_by": "tests"}],
            }
        ).encode()
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "size": len(config), "digest": _digest(config)},
            "layers": [{"mediaType": LAYER, "size": len(layer), "digest": _digest(layer)}],
        }
        self.manifest = json.dumps(manifest).encode()
        self.blobs = {_digest(config): config, _digest(layer): layer}
        self.go_on = threading.Event()
        self.blobs_served = 0
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self))
        self.server.daemon_threads = True
        self.image = f"127.0.0.1:{self.server.server_address[1]}/pulled:1"


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, registry: Registry, *arguments: Any) -> None:  # noqa: ANN401  what the server gives
        self.registry = registry
        super().__init__(*arguments)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        blob = self.registry.blobs.get(self.path.rpartition("/")[2])
        if self.path == "/v2/":
            self._send(b"{}", "application/json")
        elif self.path.startswith("/v2/pulled/manifests/"):
            self._send(self.registry.manifest, MANIFEST)
        elif blob is not None:
            self._send(blob, "application/octet-stream")
            self.registry.blobs_served += 1
        else:
            self.send_error(404)

    def _send(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Docker-Content-Digest", _digest(body))
        self.end_headers()
        if self.command == "HEAD":
            return
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.wfile.write(body[:-CHUNK_BYTES])
            if len(body) > CHUNK_BYTES:
                self.registry.go_on.wait(20)
            self.wfile.write(body[-CHUNK_BYTES:])

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def running_registry() -> Iterator[Registry]:
    """Serve until the block is left."""
    registry = Registry()
    thread = threading.Thread(target=registry.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield registry
    finally:
        registry.go_on.set()
        registry.server.shutdown()
        registry.server.server_close()
        thread.join()


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
