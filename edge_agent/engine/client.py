"""One connection to a Docker Engine: the only module that knows the docker package. All of it blocks.

Raises `EngineGone` where nobody answers, `EngineRefused` where the engine says no.
"""

from __future__ import annotations

import contextlib
import socket
from math import ceil
from typing import TYPE_CHECKING, Any

import docker
import requests
import urllib3
from docker.errors import APIError, DockerException, StreamParseError
from docker.utils import kwargs_from_env
from docker.utils.socket import frames_iter

from edge_agent.errors import EngineGone, EngineRefused

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from edge_agent.rules.containers.images import Image

PROBE_SECONDS = 5.0
"""How long an engine may take to answer that it is there."""

CALL_SECONDS = 60
"""How long it may take to do a thing; then it is asked what came of it."""

NOT_FOUND = 404
CONFLICT = 409
SERVER_ERROR = 500

STDOUT_AND_STDERR = {"stdout": 1, "stderr": 1, "stream": 1}

_NOT_UNDERSTOOD = (
    DockerException,  # what the package finds by itself: a certificate that is not there, a broken `docker login`
    ValueError,  # an address that is none, an answer that is no JSON,
    StreamParseError,  # or a part of one
)


class Client:
    """A connection, once `probe` has found somebody to answer.

    Args:
        url: `unix:///…`, `tcp://…`; None for what DOCKER_HOST says, or the usual socket.

    """

    def __init__(self, url: str | None) -> None:
        with _told():
            self._where: dict[str, Any] = {"base_url": url} if url else {**kwargs_from_env()}
        self._version = "auto"
        self._version = self.probe()
        self._api = self._connect(CALL_SECONDS)

    def probe(self) -> str:
        """Ask the engine, on a connection of its own, whether it is there; return the API version that it speaks.

        An engine that stops goes on to serve the connections that it has, and takes no new ones.
        """
        with _told():
            api = self._connect(PROBE_SECONDS)
            with contextlib.closing(api):
                api.ping()
                return str(api.api_version)
        raise AssertionError("unreachable")

    def _connect(self, seconds: float) -> docker.APIClient:
        with _told():
            return docker.APIClient(version=self._version, timeout=ceil(seconds), **self._where)
        raise AssertionError("unreachable")

    # -- images ------------------------------------------------------------------------------------------------------

    def has_image(self, image: Image) -> bool:
        """Tell whether an image is there."""
        try:
            with _told():
                self._api.inspect_image(str(image))  # type: ignore[no-untyped-call]
        except EngineRefused as refused:
            if refused.status != NOT_FOUND:
                raise
            return False
        return True

    def pull(self, image: Image) -> Iterator[Mapping[str, Any]]:
        """Fetch an image, and yield what the engine tells of it meanwhile."""
        with _told():
            for told in self._api.pull(image.repository, tag=image.digest or image.tag, stream=True, decode=True):
                if "error" in told:
                    raise EngineRefused(NOT_FOUND, str(told["error"]))
                yield told

    # -- containers --------------------------------------------------------------------------------------------------

    def create(self, name: str, config: Mapping[str, Any]) -> None:
        """Create a container. One that has the name was never started: only who has created it knows the name."""
        try:
            self._create(name, config)
        except EngineRefused as refused:
            if refused.status != CONFLICT:
                raise
            self.remove(name)
            self._create(name, config)

    def start(self, name: str) -> None:
        """Start it; one that runs is left as it is."""
        with _told():
            self._api.start(name)

    def inspect(self, name: str) -> Mapping[str, Any] | None:
        """Return what the engine knows of it; None if there is none."""
        try:
            with _told():
                found: Mapping[str, Any] = self._api.inspect_container(name)
                return found
        except EngineRefused as refused:
            if refused.status != NOT_FOUND:
                raise
        return None

    def attach(self, name: str) -> Stream:
        """Return what it writes from now on. If nobody reads it, it has to wait."""
        with _told():
            return Attached(self._api.attach_socket(name, STDOUT_AND_STDERR))
        raise AssertionError("unreachable")

    def replay(self, name: str) -> Stream:
        """Return what it has written from its beginning, as far as the engine has kept it, and what it writes."""
        with _told():
            return Stream(self._api.logs(name, stdout=True, stderr=True, stream=True, follow=True))
        raise AssertionError("unreachable")

    def wait(self, name: str) -> None:
        """Wait until it has ended."""
        with _told():
            self._api.wait(name, timeout=None)

    def stop(self, name: str, grace_seconds: float) -> None:
        """End it: ask, and after a while do not ask."""
        with _ignoring(NOT_FOUND), _told():
            self._api.stop(name, timeout=ceil(grace_seconds))

    def remove(self, name: str) -> None:
        """Remove it, whatever it does, with the volumes that it alone has."""
        with _ignoring(NOT_FOUND, CONFLICT), _told():
            self._api.remove_container(name, v=True, force=True)

    def find(self, labels: Mapping[str, str]) -> list[Mapping[str, Any]]:
        """Return all containers that have these labels."""
        with _told():
            found: list[Mapping[str, Any]] = self._api.containers(all=True, filters={"label": _pairs(labels)})
            return found
        raise AssertionError("unreachable")

    def events(self, labels: Mapping[str, str]) -> Stream:
        """Return what happens to containers that have these labels, from now on."""
        filters = {"type": "container", "label": _pairs(labels), "event": ["kill", "die"]}
        with _told():
            return Stream(self._api.events(filters=filters, decode=True))
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Let the connections go that nobody uses."""
        self._api.close()

    def _create(self, name: str, config: Mapping[str, Any]) -> None:
        with _told():
            self._api.create_container_from_config(dict(config), name)  # type: ignore[no-untyped-call]


class Stream:
    """Something that goes on until the engine ends it, or `close` from another thread."""

    def __init__(self, stream: Any) -> None:  # noqa: ANN401  docker.types.CancellableStream
        self._stream = stream

    def __iter__(self) -> Iterator[Any]:
        with _told():
            try:
                yield from self._stream
            finally:
                self.close()

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(Exception):  # it has ended, in whatever way
            self._stream.close()


class Attached(Stream):
    """The output of a container, as bytes."""

    def __init__(self, stream: Any) -> None:  # noqa: ANN401  a socket, or Python's file over one
        super().__init__(stream)
        self._socket: socket.socket = getattr(stream, "_sock", stream)

    def __iter__(self) -> Iterator[bytes]:
        with _told():
            try:
                for _, data in frames_iter(self._stream, tty=False):  # type: ignore[no-untyped-call]
                    yield data
            finally:
                self._stream.close()
                self._socket.close()

    def close(self) -> None:
        """End it; closing alone would leave a thread in `poll`."""
        with contextlib.suppress(OSError):  # it has ended
            self._socket.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Tell what went wrong in our own errors."""
    try:
        yield
    except APIError as error:
        status = error.response.status_code if error.response is not None else SERVER_ERROR
        raise EngineRefused(status, str(error.explanation or error)) from error
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        raise EngineGone(_reason(error)) from error
    except _NOT_UNDERSTOOD as error:
        raise EngineRefused(SERVER_ERROR, _reason(error)) from error


@contextlib.contextmanager
def _ignoring(*statuses: int) -> Iterator[None]:
    try:
        yield
    except EngineRefused as refused:
        if refused.status not in statuses:
            raise


def _reason(error: BaseException) -> str:
    """Return the first cause: requests and urllib3 wrap what the system said three times."""
    while error.__context__ is not None:
        error = error.__context__
    return str(error) or type(error).__name__


def _pairs(labels: Mapping[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in labels.items()]
