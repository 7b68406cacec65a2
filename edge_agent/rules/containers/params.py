"""The params of a container task."""

from __future__ import annotations

import posixpath
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from broker.errors import InvalidInput
from broker.messages import Message
from edge_agent.rules.containers.images import Image

MAX_PATH = 4096
MAX_STOP_SECONDS = 300.0
STOP_SECONDS = 10.0
"""How long a container may take to end after SIGTERM; then it is killed."""

PIDS = 512
"""How many processes a container may have, where the task does not say."""

MIN_MEMORY_MB = 6
"""The engine's own least."""


def _image(value: str) -> str:
    try:
        Image.parse(value)
    except InvalidInput as error:
        raise ValueError(error.problems[0].expected) from None
    return value


def _absolute(value: str) -> str:
    if not value.startswith("/") or ".." in value.split("/") or posixpath.normpath(value) == "/":
        msg = "an absolute path below '/', without '..'"
        raise ValueError(msg)
    return posixpath.normpath(value).replace("//", "/")


Text = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]
Variable = Annotated[str, StringConstraints(pattern=r"^[^=\x00]+$")]
ImageName = Annotated[str, StringConstraints(max_length=1024), AfterValidator(_image)]
AbsolutePath = Annotated[str, StringConstraints(max_length=MAX_PATH, pattern=r"^[^\x00]*$"), AfterValidator(_absolute)]
VolumeName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{1,127}$")]


class Mount(Message):
    """A named volume or a path of the host, at `target` in the container."""

    volume: VolumeName | None = None
    source: AbsolutePath | None = None
    target: AbsolutePath
    read_only: bool = False

    @model_validator(mode="after")
    def _one_origin(self) -> Mount:
        if (self.volume is None) == (self.source is None):
            msg = "either a volume or a source"
            raise ValueError(msg)
        return self


class ContainerParams(Message):
    """What to run, and with what.

    Attributes:
        command: What follows the entrypoint; the image's own where unset.
        network: Whether it gets the engine's default network; else it has none but its own loopback.
        memory_mb: What it may use at most, in MiB; above that it is killed.
        cpus: How many processors' time it may use.
        pids: How many processes it may have.
        pull: Whether the image is fetched: `missing`, `always` or `never`.
        init: Whether a small init is its first process, which reaps children and passes signals on.
        stop_seconds: How long it may take to end after SIGTERM.

    """

    image: ImageName
    command: list[Text] | None = Field(default=None, min_length=1)
    entrypoint: list[Text] | None = Field(default=None, min_length=1)
    env: dict[Variable, Text] = Field(default={})
    workdir: AbsolutePath | None = None
    user: Annotated[str, StringConstraints(pattern=r"^[^\x00]+$")] | None = None
    network: bool = False
    memory_mb: int | None = Field(default=None, ge=MIN_MEMORY_MB, le=2**30)
    cpus: float | None = Field(default=None, ge=0.01, le=4096)
    pids: int = Field(default=PIDS, ge=1, le=2**22)
    mounts: list[Mount] = Field(default=[], max_length=64)
    devices: list[AbsolutePath] = Field(default=[], max_length=64)
    privileged: bool = False
    read_only: bool = False
    init: bool = True
    pull: Literal["missing", "always", "never"] = "missing"
    stop_seconds: float = Field(default=STOP_SECONDS, ge=0, le=MAX_STOP_SECONDS)

    @model_validator(mode="after")
    def _different_targets(self) -> ContainerParams:
        targets = [mount.target for mount in self.mounts]
        if len(set(targets)) < len(targets):
            msg = "mounts with different targets"
            raise ValueError(msg)
        return self
