"""A hub that runs, as a command asks it: over HTTP, and with one line for what goes wrong."""

from __future__ import annotations

import ssl
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote

import httpx

from broker.problems import Problem
from broker.settings import fail
from hub.rules.task import ENDED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 60.0
WAIT_SECONDS = 30.0
"""How long one request waits for the end of a task; it is asked again as often as needed."""

Shape = dict[str, Any]


class Client:
    """Asks a hub. What it refuses, and a hub that cannot be reached, end the program with exit code 2."""

    def __init__(self, url: str, *, token: str | None = None, ca: Path | None = None) -> None:
        self._url = url
        self._http = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            verify=_trust(ca) if ca else True,
            timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
        )

    def get(self, path: str, **query: str | float | None) -> Shape:
        """Return what a GET answers; what is None is not asked for."""
        return self._ask("GET", path, params={name: value for name, value in query.items() if value is not None})

    def post(self, path: str, body: Shape) -> Shape:
        """Return what a POST answers."""
        return self._ask("POST", path, json=body)

    def put(self, path: str, body: Shape) -> Shape:
        """Return what a PUT answers."""
        return self._ask("PUT", path, json=body)

    def delete(self, path: str) -> None:
        """Delete what there is at `path`."""
        with self._reached():
            answer = self._http.delete(path)
        if answer.is_error:
            _refuse(answer)

    def wait(self, task: str, timeout_seconds: float | None) -> Shape:
        """Return a task once it has ended, or as it stands after so many seconds."""
        left = timeout_seconds
        while True:
            step = WAIT_SECONDS if left is None else min(WAIT_SECONDS, left)
            shape = self.get(path_of(task, "wait"), timeout=step)
            left = None if left is None else left - step
            if shape["state"] in ENDED or (left is not None and left <= 0):
                return shape

    def task(self, task: str) -> Shape:
        """Return one task in full."""
        return self.get(path_of(task))

    def act(self, task: str, verb: str, body: Shape) -> Shape:
        """Do something to a task, and return it as it is then."""
        return self.post(path_of(task, verb), body)

    def log(self, task: str, *, follow: bool) -> Iterator[bytes]:
        """Yield what a task has written, as it comes."""
        query = {"follow": "true"} if follow else {}
        patience = httpx.Timeout(None, connect=CONNECT_SECONDS)
        with self._reached(), self._http.stream("GET", path_of(task, "log"), params=query, timeout=patience) as answer:
            if answer.is_error:
                answer.read()
                _refuse(answer)
            yield from answer.iter_bytes()

    def _ask(self, method: str, path: str, **more: Any) -> Shape:  # noqa: ANN401  as httpx takes it
        with self._reached():
            answer = self._http.request(method, path, **more)
        if answer.is_error:
            _refuse(answer)
        try:
            shape: Shape = answer.json()
        except ValueError:
            fail(f"{self._url} is no hub: it answers with {answer.headers.get('content-type', 'nothing')}")
        return shape

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            fail(f"the hub at {self._url} does not answer: {str(error) or type(error).__name__}")


def path_of(task: str, verb: str | None = None) -> str:
    """Return where a task is, whatever was typed for its id."""
    if not task:
        fail('TASK is "": expected the id of a task')
    return f"/api/tasks/{quote(task, safe='')}" + (f"/{verb}" if verb else "")


def _trust(ca: Path) -> ssl.SSLContext:
    """Return a context that trusts one authority and no other."""
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as error:
        fail(str(Problem("HUB_CA", f"'{ca}'", f"a file of certificates in PEM ({error})")))


def _refuse(answer: httpx.Response) -> NoReturn:
    """Say what a hub has against a request."""
    try:
        document = answer.json()
        said = document["detail"] or document["title"]
    except (ValueError, KeyError, TypeError):
        said = f"{answer.status_code} {answer.reason_phrase}"
    if answer.status_code == HTTPStatus.UNAUTHORIZED:
        said = f"{said}; here: --token, HUB_TOKEN or HUB_TOKEN_FILE"
    fail(str(said))
