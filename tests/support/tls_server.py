"""A TLS server in a thread: asyncio's own forgets a connection whose handshake fails before it is closed (3.11)."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

HOST = "127.0.0.1"
MAX_REQUEST_BYTES = 64 * 1024


@contextlib.contextmanager
def answering(tls: ssl.SSLContext, answer: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """Answer one request on each connection; yield the port, and what was asked."""
    asked: list[bytes] = []

    def serve() -> None:
        with contextlib.suppress(OSError):  # the listener is closed
            while True:
                raw, _ = listener.accept()
                with raw, contextlib.suppress(OSError), tls.wrap_socket(raw, server_side=True) as connection:
                    request = connection.recv(MAX_REQUEST_BYTES)
                    if request:
                        asked.append(request)
                        connection.sendall(answer)

    with socket.create_server((HOST, 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1], asked
        finally:
            listener.shutdown(socket.SHUT_RDWR)  # ends `accept`, which a close alone does not
            thread.join()
