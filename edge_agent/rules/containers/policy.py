"""What a worker lets containers have: `WORKER_ALLOW_IMAGES`, `_MOUNTS` and `_DEVICES`, and its capabilities.

Nothing is allowed that is not listed. A path is looked at twice: as it is written, when a task comes (`refusal`), and
as the host resolves it, before the engine hears of it (`refusal_of_source`), since a link may lead anywhere.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from broker.errors import InvalidInput
from broker.problems import Problem, shown
from edge_agent.rules.containers import images
from edge_agent.rules.containers.images import Image, ImagePattern

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from broker.messages import Scalar
    from edge_agent.rules.containers.params import ContainerParams, Mount

READ_ONLY = ":ro"
PRIVILEGED = "privileged"
NETWORK = "network_access"


@dataclass(frozen=True, slots=True)
class Place:
    """One entry of `WORKER_ALLOW_MOUNTS`: a path of the host with all under it, or a glob for names of volumes."""

    name: str
    read_only: bool

    @classmethod
    def parse(cls, text: str) -> Place:
        """Read `/srv/data`, `/srv/data:ro`, `models` or `cache-*:ro`. Raises `InvalidInput`."""
        name = text.removesuffix(READ_ONLY)
        is_path = name.startswith("/")
        is_volume = re.fullmatch(r"[A-Za-z0-9*][A-Za-z0-9_.*-]*", name)
        if (is_path and (".." in name.split("/") or "*" in name or ":" in name)) or not (is_path or is_volume):
            expected = "an absolute path without '..', or a volume: '/srv/data', '/srv/data:ro', 'cache-*'"
            raise InvalidInput([Problem("place", shown(text), expected)])
        return cls(_normal(name) if is_path else name, text.endswith(READ_ONLY))

    @property
    def is_path(self) -> bool:
        """Whether it speaks of the host's files."""
        return self.name.startswith("/")

    def holds(self, path: str) -> bool:
        """Tell whether a path of the host is this one, or under it."""
        return self.is_path and (path == self.name or path.startswith(self.name.rstrip("/") + "/"))

    def names(self, volume: str) -> bool:
        """Tell whether a volume is one of these."""
        return not self.is_path and bool(_glob(self.name).fullmatch(volume))


@dataclass(frozen=True, slots=True)
class Policy:
    """What is allowed.

    Attributes:
        socket: The engine's socket, if it has one: who can reach it owns the host.

    """

    images: tuple[ImagePattern, ...] = ()
    places: tuple[Place, ...] = ()
    devices: tuple[str, ...] = ()
    socket: str | None = None
    _devices: tuple[re.Pattern[str], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_devices", tuple(_glob(one) for one in self.devices))

    @classmethod
    def of(
        cls,
        *,
        allow_images: Iterable[str],
        allow_mounts: Iterable[str],
        allow_devices: Iterable[str],
        socket: str | None,
    ) -> Policy:
        """Return the policy of the settings. Raises `InvalidInput`."""
        places = tuple(Place.parse(one) for one in allow_mounts)
        return cls(images.parse(allow_images), places, tuple(allow_devices), socket)

    def refusal(self, params: ContainerParams, capabilities: Mapping[str, Scalar]) -> str | None:
        """Return why a task is not allowed here, or None."""
        return next(self._reasons(params, capabilities), None)

    def refusal_of_source(self, mount: Mount, resolved: str) -> str | None:
        """Return why a path of the host may not be mounted, now that it is known where it leads; or None."""
        if mount.source is None:
            return None
        return self._refusal_of_path(mount.source, resolved, read_only=mount.read_only)

    def _reasons(self, params: ContainerParams, capabilities: Mapping[str, Scalar]) -> Iterator[str]:
        image = Image.parse(params.image)
        if not any(pattern.allows(image) for pattern in self.images):
            yield f"WORKER_ALLOW_IMAGES does not allow {str(image)!r}"
        if params.privileged and capabilities.get(PRIVILEGED) is not True:
            yield "privileged is asked for, and this worker has not the capability 'privileged'"
        if params.network and capabilities.get(NETWORK) is not True:
            yield "network is asked for, and this worker has not the capability 'network_access'"
        for mount in params.mounts:
            reason = self._refusal_of_mount(mount)
            if reason:
                yield reason
        for device in params.devices:
            if not any(pattern.fullmatch(device) for pattern in self._devices):
                yield f"WORKER_ALLOW_DEVICES does not allow {device!r}"

    def _refusal_of_mount(self, mount: Mount) -> str | None:
        if mount.source is not None:
            return self._refusal_of_path(mount.source, mount.source, read_only=mount.read_only)
        places = [place for place in self.places if place.names(mount.volume or "")]
        return _judge(places, f"the volume {mount.volume!r}", read_only=mount.read_only)

    def _refusal_of_path(self, asked: str, path: str, *, read_only: bool) -> str | None:
        named = repr(asked) if asked == path else f"{asked!r}, which leads to {path!r}"
        if self.socket is not None and Place(path, read_only=False).holds(self.socket):
            return f"{named} holds the engine's socket, which is never mounted"
        return _judge([place for place in self.places if place.holds(path)], named, read_only=read_only)


def _judge(places: list[Place], named: str, *, read_only: bool) -> str | None:
    if not places:
        return f"WORKER_ALLOW_MOUNTS does not allow {named}"
    if not read_only and all(place.read_only for place in places):
        return f"WORKER_ALLOW_MOUNTS allows {named} with read_only only"
    return None


def _normal(path: str) -> str:
    return "/" + posixpath.normpath(path).lstrip("/")


def _glob(text: str) -> re.Pattern[str]:
    return re.compile("[^/]*".join(re.escape(part) for part in text.split("*")))
