"""Where a broker is: `mqtts://broker.example:8883`, taken apart."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from broker.errors import InvalidInput
from broker.problems import Problem, shown

DEFAULT_PORTS = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}


@dataclass(frozen=True, slots=True)
class BrokerUrl:
    """Where a broker is, taken apart: a scheme (`mqtt`, `mqtts`, `ws`, `wss`), a host, a port, a path."""

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, url: str, field: str = "broker_url") -> BrokerUrl:
        """Take `url` apart. Raises `InvalidInput`, naming `field`, for one that is no broker's."""
        expected = "mqtt://, mqtts://, ws:// or wss://, a host, and maybe a port: mqtt://broker.example:1883"
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise InvalidInput([Problem(field, shown(url), expected)]) from None
        if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
            raise InvalidInput([Problem(field, shown(url), expected)])
        if parts.username or parts.password:
            raise InvalidInput(
                [
                    Problem(
                        field,
                        shown(f"{parts.scheme}://…@{parts.hostname}"),
                        "no account in the URL: it has settings of its own",
                    )
                ]
            )
        return cls(parts.scheme, parts.hostname, port or DEFAULT_PORTS[parts.scheme], parts.path or "/mqtt")

    @property
    def secure(self) -> bool:
        """Whether the connection is encrypted."""
        return self.scheme in ("mqtts", "wss")

    @property
    def websocket(self) -> bool:
        """Whether MQTT goes over a WebSocket."""
        return self.scheme in ("ws", "wss")
