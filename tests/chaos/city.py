"""What there is to break: a hub, a broker, and workers of different build at three sites. Values only."""

from __future__ import annotations

from dataclasses import dataclass

HUB = "hub"
BROKER = "broker"


@dataclass(frozen=True, slots=True)
class Place:
    """A worker.

    Attributes:
        small_buffer: Its journal takes so little that it must drop something in an outage.
        small_disk: It lives on a file system of its own, of a few megabytes.
        own_clock: Its clock can be set without ours.
        gentle: It spares its disk (WORKER_BUFFER_MODE).

    """

    name: str
    site: str
    small_buffer: bool = False
    small_disk: bool = False
    own_clock: bool = False
    gentle: bool = False


@dataclass(frozen=True, slots=True)
class City:
    """All workers."""

    places: tuple[Place, ...]

    @property
    def sites(self) -> tuple[str, ...]:
        """The sites, in order."""
        return tuple(dict.fromkeys(place.site for place in self.places))

    def of_site(self, site: str) -> tuple[Place, ...]:
        """Return the workers of a site."""
        return tuple(place for place in self.places if place.site == site)

    def place(self, name: str) -> Place:
        """Return a worker by its name."""
        return next(place for place in self.places if place.name == name)


CITY = City(
    (
        Place("a1", "site-a", small_buffer=True),
        Place("a2", "site-a"),
        Place("b1", "site-b", small_disk=True),
        Place("b2", "site-b", own_clock=True),
        Place("c1", "site-c", gentle=True),
        Place("c2", "site-c", small_buffer=True, own_clock=True),
    )
)
