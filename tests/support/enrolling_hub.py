"""A hub that does nothing but enrol, by HTTP or HTTPS, and can lose an answer: the agent's side is looked at."""

from __future__ import annotations

import json
import ssl
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.certificates import Pair

HOST = "127.0.0.1"


@dataclass
class EnrollingHub:
    """What it knows, and what it was asked.

    Attributes:
        token: The one that is good for one worker.
        ca: The authority that it shows.
        site: That of the token.
        loses: How many answers get lost from now on: the connection ends in their place.
        status: What it answers to an enrolment, but for 200.
        detail: What it says then.

    """

    token: str = ""
    ca: str | None = None
    site: str = "site-a"
    broker_url: str = "mqtts://broker.example"
    loses: int = 0
    status: int = 200
    detail: str = ""
    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    used_by: tuple[str, str] | None = None

    def enrol(self, ask: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.asked.append(ask)
        if self.status != 200:
            return self.status, {"title": "refused", "detail": self.detail}
        who = ask["worker"], ask["nonce"]
        if ask["token"] != self.token:
            return 403, {"title": "refused", "detail": "token is none that this hub has made"}
        if self.used_by not in (None, who):
            return 403, {"title": "refused", "detail": "the token was used; ask for another"}
        if ask.get("site") not in (None, self.site):
            return 403, {"title": "refused", "detail": f"the token is for {self.site}, and not for {ask['site']}"}
        self.used_by = who
        answer = {"worker": who[0], "site": self.site, "username": who[0], "password": f"of-{who[1]}"}
        return 200, {**answer, "broker_url": self.broker_url, "root": "edge", "ca": self.ca}


@contextmanager
def enrolling(hub: EnrollingHub, pair: Pair | None = None) -> Iterator[EnrollingHub]:
    """Serve on a free port: by HTTPS, if there is a certificate."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(200 if hub.ca else 404, (hub.ca or "{}").encode())

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, answer = hub.enrol(body)
            if hub.loses:
                hub.loses -= 1
                self.close_connection = True
                return
            self.answer(status, json.dumps(answer).encode())

        def answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:  # a handshake that fails is what some tests are about
            ...

    with Server((HOST, 0), Handler) as server:
        if pair:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pair.certificate, pair.key)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        hub.url = f"{'https' if pair else 'http'}://{HOST}:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
