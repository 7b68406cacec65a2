"""One connection to the broker: the only module that imports aiomqtt or paho.

MQTT 5 at QoS 1, acknowledged by hand: a message that was not acknowledged comes again, so `Incoming.ack` belongs
after the commit that makes it safe. `Link.run` connects, serves, and connects again for ever.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from broker.errors import InvalidInput, LinkDown
from broker.log import get_logger
from broker.problems import Problem, shown
from broker.reconnect import cancellable, keep_connected

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from paho.mqtt.client import Client as PahoClient

QOS = 1
DEFAULT_PORTS = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}
KEEPALIVE_SECONDS = 20
OPERATION_TIMEOUT_SECONDS = 10.0
LEAVE_TIMEOUT_SECONDS = 1.0
"""How long a broker that does not answer can hold up who leaves."""

RECEIVE_MAXIMUM = 200

_UNSPECIFIED = 128
"""The reason code that paho gives a connection that ended without one (MQTT 5 §2.4)."""

log = get_logger(__name__)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """How a client shows who it is, and whom it trusts."""

    username: str | None = None
    password: str | None = None
    tls_ca: str | None = None
    tls_certificate: str | None = None
    tls_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Will:
    """What the broker publishes, retained, when the connection dies."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message as it came; until `ack` it counts as not received."""

    topic: str
    payload: bytes
    retained: bool
    reply_topic: str | None
    correlation: bytes | None
    ack: Callable[[], None]


class Connection:
    """A live connection; every call raises `LinkDown` once it is gone."""

    def __init__(self, client: aiomqtt.Client, url: str) -> None:
        self._client = client
        self.url = url

    @property
    def transport(self) -> Literal["mqtt"]:
        """Which way it goes, as a birth says it."""
        return "mqtt"

    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        retain: bool = False,
        expiry_seconds: int | None = None,
        reply_topic: str | None = None,
        correlation: bytes | None = None,
    ) -> None:
        """Publish at QoS 1 and return when the broker has acknowledged, which does not mean that it has stored."""
        properties = Properties(PacketTypes.PUBLISH)
        if expiry_seconds is not None:
            properties.MessageExpiryInterval = expiry_seconds
        if reply_topic is not None:
            properties.ResponseTopic = reply_topic
        if correlation is not None:
            properties.CorrelationData = correlation
        try:
            await cancellable(self._client.publish(topic, payload, QOS, retain, properties))
        except (aiomqtt.MqttError, ValueError) as error:
            raise LinkDown(self.url, str(error)) from error

    async def subscribe(self, *filters: str, no_local: bool = False) -> None:
        """Subscribe at QoS 1; with `no_local` the broker does not send back what this client publishes."""
        options = SubscribeOptions(QOS, noLocal=no_local)
        try:
            codes = await cancellable(self._client.subscribe([(pattern, options) for pattern in filters]))
        except aiomqtt.MqttError as error:
            raise LinkDown(self.url, str(error)) from error
        refused = [f"{pattern}: {code}" for pattern, code in zip(filters, codes, strict=True) if _is_failure(code)]
        if refused:
            raise LinkDown(self.url, f"the broker refused to subscribe {', '.join(refused)}")

    async def unsubscribe(self, *filters: str) -> None:
        """End subscriptions; what was sent before the broker's acknowledgement has come when this returns."""
        try:
            await cancellable(self._client.unsubscribe(list(filters)))
        except aiomqtt.MqttError as error:
            raise LinkDown(self.url, str(error)) from error

    async def messages(self) -> AsyncIterator[Incoming]:
        """Yield what comes, for as long as the connection lives; raise `LinkDown` when it ends."""
        try:
            async for message in self._client.messages:
                yield self._incoming(message)
        except aiomqtt.MqttError as error:
            raise LinkDown(self.url, _reason(error)) from error

    def waiting(self) -> int:
        """Return how many messages have come and were not yet yielded."""
        return len(self._client.messages)

    def _incoming(self, message: aiomqtt.Message) -> Incoming:
        paho, mid = self._client._client, message.mid  # noqa: SLF001  manual acknowledgement has no other door in aiomqtt 2.5
        properties = message.properties
        return Incoming(
            topic=message.topic.value,
            payload=bytes(message.payload),
            retained=message.retain,
            reply_topic=getattr(properties, "ResponseTopic", None),
            correlation=getattr(properties, "CorrelationData", None),
            ack=lambda: _acknowledge(paho, mid, message.qos),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """How to connect, and for how long the broker keeps the session after the connection died.

    Args:
        url: `mqtt://`, `mqtts://`, `ws://` or `wss://`.
        client_id: Unique on the broker: a second connection with it ends the first.
        account: User name, password and certificates.
        session_expiry_seconds: 0 starts clean and leaves nothing behind.
        starts_clean: Asked at each connection, whether what the broker has kept for this client is to be forgotten.
        keepalive_seconds: After one and a half of these without a word the broker gives the client up.

    """

    url: str
    client_id: str
    account: Account = Account()
    session_expiry_seconds: int = 0
    starts_clean: Callable[[], bool] = lambda: False
    keepalive_seconds: int = KEEPALIVE_SECONDS

    async def run(
        self,
        serve: Callable[[Connection], Awaitable[None]],
        *,
        will: Callable[[], Will] | None = None,
        on_down: Callable[[LinkDown, float], None] | None = None,
    ) -> None:
        """Connect, `await serve(connection)`, and connect again whenever the link goes; return when `serve` does.

        Args:
            serve: Uses one connection; what it raises as `LinkDown` (alone or in a group) means to try again.
            will: Makes the will of each connection.
            on_down: Told of each failure and the seconds until the next try.

        """
        await keep_connected(lambda: self._once(serve, will() if will else None), on_down)

    async def _once(self, serve: Callable[[Connection], Awaitable[None]], will: Will | None) -> None:
        async with self.connect(will) as connection:
            await serve(connection)

    @asynccontextmanager
    async def connect(self, will: Will | None = None) -> AsyncIterator[Connection]:
        """Hold one connection; leaving the block disconnects in order, so that the will is not published."""
        client = self._client(will)
        try:
            await cancellable(client.__aenter__())
        except (aiomqtt.MqttError, OSError) as error:
            raise LinkDown(self.url, _reason(error)) from error
        except asyncio.CancelledError:
            await _leave(client)
            raise
        try:
            _without_delay(client)
            yield Connection(client, self.url)
        finally:
            await _leave(client)

    def _client(self, will: Will | None) -> aiomqtt.Client:
        where = BrokerUrl.parse(self.url)
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = self.session_expiry_seconds
        properties.ReceiveMaximum = RECEIVE_MAXIMUM
        client = _Client(
            where.host,
            where.port,
            username=self.account.username,
            password=self.account.password,
            identifier=self.client_id,
            protocol=aiomqtt.ProtocolVersion.V5,
            will=aiomqtt.Will(will.topic, will.payload, QOS, retain=True) if will else None,
            clean_start=self.session_expiry_seconds == 0 or self.starts_clean(),
            properties=properties,
            keepalive=self.keepalive_seconds,
            timeout=OPERATION_TIMEOUT_SECONDS,
            tls_context=_tls(self.account) if where.secure else None,
            transport="websockets" if where.websocket else "tcp",
            websocket_path=where.path if where.websocket else None,
        )
        client.pending_calls_threshold = RECEIVE_MAXIMUM
        client._client.manual_ack_set(True)  # noqa: SLF001, FBT003  aiomqtt 2.5 acknowledges before we see a message otherwise
        return client


class _Client(aiomqtt.Client):
    """An aiomqtt 2.5 client that does not ask the event loop to watch a socket that was closed meanwhile.

    What paho wants to write is registered a turn of the loop later, by the number of its socket. A connection that ends
    in between has closed that: the loop raises, or watches whoever has got the number since.
    """

    def _on_socket_register_write(self, client: PahoClient, _userdata: object, sock: Any) -> None:  # noqa: ANN401
        self._loop.call_soon_threadsafe(self._register_write, client, sock)

    def _register_write(self, client: PahoClient, sock: Any) -> None:  # noqa: ANN401
        is_current = client.socket() is sock
        if is_current and sock.fileno() >= 0:
            self._loop.add_writer(sock.fileno(), self._write, client)

    def _write(self, client: PahoClient) -> None:
        try:
            client.loop_write()
        except Exception as error:  # noqa: BLE001  whatever it is, the connection is of no more use
            if not self._disconnected.done():
                self._disconnected.set_exception(error)


def _tls(account: Account) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=account.tls_ca)
        if account.tls_certificate:
            context.load_cert_chain(account.tls_certificate, account.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise LinkDown(account.tls_ca or "the system's certificates", f"TLS: {error}") from error
    return context


def _without_delay(client: aiomqtt.Client) -> None:
    # Nagle's algorithm and delayed acknowledgement cost 40 ms an exchange. aiomqtt's `socket_options` passes over the
    # wrapper that paho puts around a WebSocket's socket, so the option is set here for all transports.
    wrapped = client._client.socket()  # noqa: SLF001
    sock = getattr(wrapped, "_socket", wrapped)
    if isinstance(sock, socket.socket):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


async def _leave(client: aiomqtt.Client) -> None:
    client.timeout = LEAVE_TIMEOUT_SECONDS
    try:
        await client.__aexit__(None, None, None)
    except aiomqtt.MqttError as error:
        log.debug("the connection did not end in order", reason=str(error))
    ended = client._disconnected  # noqa: SLF001
    if ended.done() and not ended.cancelled():
        ended.exception()  # it is known: asyncio would complain that nobody had looked


def _acknowledge(paho: PahoClient, mid: int, qos: int) -> None:
    if qos and paho.is_connected():
        paho.ack(mid, qos)


def _is_failure(code: object) -> bool:
    return bool(getattr(code, "is_failure", False))


def _reason(error: BaseException) -> str:
    """Say why a connection failed or ended; aiomqtt keeps the broker's own word in the cause."""
    cause = error.__cause__
    if isinstance(cause, aiomqtt.MqttCodeError) and cause.rc == _UNSPECIFIED:
        return "the connection was closed"
    return str(cause) if cause is not None and str(cause) else str(error) or type(error).__name__
