"""One connection to the broker: the only module that imports aiomqtt or paho.

MQTT 5 at QoS 1, acknowledged by hand: a message that was not acknowledged comes again, so `Incoming.ack` belongs
after the commit that makes it safe. `Link.run` connects, serves, and connects again for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import aiomqtt
from paho.mqtt.client import WebsocketConnectionError
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from broker import refusals, trouble
from broker.account import Account, tls_context
from broker.errors import LinkDown, Refused, Trouble
from broker.log import get_logger
from broker.reconnect import cancellable, keep_connected
from broker.url import BrokerUrl

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable

    from paho.mqtt.client import Client as PahoClient, DisconnectFlags
    from paho.mqtt.reasoncodes import ReasonCode

__all__ = ["Account", "Connection", "Incoming", "Link", "Will"]

QOS = 1
KEEPALIVE_SECONDS = 20
OPERATION_TIMEOUT_SECONDS = 10.0
LEAVE_TIMEOUT_SECONDS = 1.0
"""How long a broker that does not answer can hold up who leaves."""

RECEIVE_MAXIMUM = 200

_UNSPECIFIED = 128
"""The reason code that paho gives a connection that ended without one (MQTT 5 §2.4)."""

log = get_logger(__name__)


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
    """A live connection; every call raises `LinkDown` once it is gone, and `Refused` for what the broker refuses."""

    def __init__(self, client: _Client, url: str, username: str | None = None) -> None:
        self._client = client
        self._username = username
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
        """Publish at QoS 1 and return when the broker has acknowledged, which does not mean that it has stored.

        Raises:
            Refused: If the broker does not take it.
            LinkDown: If the connection is gone.

        """
        properties = Properties(PacketTypes.PUBLISH)
        if expiry_seconds is not None:
            properties.MessageExpiryInterval = expiry_seconds
        if reply_topic is not None:
            properties.ResponseTopic = reply_topic
        if correlation is not None:
            properties.CorrelationData = correlation
        try:
            code = await cancellable(self._client.publish_and_hear(topic, payload, properties, retain=retain))
        except (aiomqtt.MqttError, ValueError) as error:
            raise LinkDown(self.url, str(error)) from error
        if refusals.is_failure(code):
            raise self._refused(code, refusals.of_publish(code, topic, self._username), topic)

    async def subscribe(self, *filters: str, no_local: bool = False) -> None:
        """Subscribe at QoS 1; with `no_local` the broker does not send back what this client publishes."""
        options = SubscribeOptions(QOS, noLocal=no_local)
        try:
            codes = await cancellable(self._client.subscribe([(pattern, options) for pattern in filters]))
        except aiomqtt.MqttError as error:
            raise LinkDown(self.url, str(error)) from error
        for pattern, answer in zip(filters, codes, strict=True):
            code = _code(answer)
            if refusals.is_failure(code):
                raise self._refused(code, refusals.of_subscribe(code, pattern, self._username), pattern)

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

    def _refused(self, code: int, why: Trouble, topic: str) -> Refused:
        return Refused(self.url, code, why, topic=topic, passing=refusals.is_passing(code))

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
        renewed: Asked at each connection for the account, where that may change meanwhile.
        session_expiry_seconds: 0 starts clean and leaves nothing behind.
        starts_clean: Asked at each connection, whether what the broker has kept for this client is to be forgotten.
        keepalive_seconds: After one and a half of these without a word the broker gives the client up.

    """

    url: str
    client_id: str
    account: Account = field(default_factory=Account)
    renewed: Callable[[], Account] | None = None
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
        account = self.renewed() if self.renewed else self.account
        client = self._client(account, will)
        try:
            await cancellable(client.__aenter__())
        except (aiomqtt.MqttError, OSError) as error:
            client.forget()
            raise self._not_connected(error, account) from error
        except asyncio.CancelledError:
            await _leave(client)
            raise
        try:
            _without_delay(client)
            yield Connection(client, self.url, account.username)
        finally:
            await _leave(client)

    def _client(self, account: Account, will: Will | None) -> _Client:
        where = BrokerUrl.parse(self.url)
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = self.session_expiry_seconds
        properties.ReceiveMaximum = RECEIVE_MAXIMUM
        client = _Client(
            where.host,
            where.port,
            username=account.username,
            password=account.password,
            identifier=self.client_id,
            protocol=aiomqtt.ProtocolVersion.V5,
            will=aiomqtt.Will(will.topic, will.payload, QOS, retain=True) if will else None,
            clean_start=self.session_expiry_seconds == 0 or self.starts_clean(),
            properties=properties,
            keepalive=self.keepalive_seconds,
            timeout=OPERATION_TIMEOUT_SECONDS,
            tls_context=_tls(account, self.url) if where.secure else None,
            transport="websockets" if where.websocket else "tcp",
            websocket_path=where.path if where.websocket else None,
        )
        client.pending_calls_threshold = RECEIVE_MAXIMUM
        client._client.manual_ack_set(True)  # noqa: SLF001, FBT003  aiomqtt 2.5 acknowledges before we see a message otherwise
        return client

    def _not_connected(self, error: Exception, account: Account) -> LinkDown:
        if isinstance(error, aiomqtt.MqttCodeError):
            code = _code(error.rc)
            why = refusals.of_connection(
                code, username=account.username, client_id=self.client_id, remedy=account.remedy
            )
            return Refused(self.url, code, why, passing=refusals.is_passing(code))
        where = BrokerUrl.parse(self.url)
        peer = trouble.Peer(
            host=where.host, port=where.port, secure=where.secure, ca=account.authority, prefix=account.prefix
        )
        why = _why_not_connected(error, peer)
        return LinkDown(self.url, why.reason, why.remedy)


class _Client(aiomqtt.Client):
    """An aiomqtt 2.5 client that hears what it does not.

    - What the broker says of what is published: aiomqtt takes every PUBACK for a yes.
    - That a connection ends before the broker has answered: aiomqtt waits on for its answer.
    - That a socket was closed meanwhile: the loop is asked to watch it a turn later, by its number. A connection that
      ends in between has closed that: the loop raises, or watches whoever has got the number since.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401  aiomqtt's
        super().__init__(*arguments, **options)
        self._answers: dict[int, asyncio.Future[int]] = {}
        self._connecting = False
        self._left = False

    def _client_connect(self) -> None:
        """Connect, in a thread. Who has been cancelled meanwhile has left nobody to close what this opens."""
        self._connecting = True
        try:
            super()._client_connect()
        finally:
            self._connecting = False
            if self._left:
                with contextlib.suppress(RuntimeError):  # the event loop has ended as well
                    self._loop.call_soon_threadsafe(self._client._sock_close)  # noqa: SLF001

    def forget(self) -> None:
        """Let go of the socket, and of errors that nobody waits for."""
        self._left = True
        if not self._connecting:
            self._client._sock_close()  # noqa: SLF001  paho does it when it is collected, which may be late
        for ended in (self._connected, self._disconnected):
            if ended.done() and not ended.cancelled():
                ended.exception()  # it is known: asyncio would complain that nobody had looked

    async def publish_and_hear(self, topic: str, payload: bytes, properties: Properties, *, retain: bool) -> int:
        """Publish at QoS 1, and return the reason code of the PUBACK."""
        info = self._client.publish(topic, payload, QOS, retain, properties)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise aiomqtt.MqttCodeError(info.rc, "Could not publish message")
        answer: asyncio.Future[int] = self._loop.create_future()
        self._answers[info.mid] = answer
        try:
            return await self._wait_for(answer, timeout=None)
        finally:
            self._answers.pop(info.mid, None)

    def _on_publish(
        self, _client: PahoClient, _userdata: object, mid: int, reason_code: ReasonCode, _properties: Properties
    ) -> None:
        answer = self._answers.pop(mid, None)
        if answer and not answer.done():
            answer.set_result(_code(reason_code))

    def _on_disconnect(
        self,
        client: PahoClient,
        userdata: object,
        flags: DisconnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        if self._connected.cancelled():  # aiomqtt would ask for its error, and raise before paho has closed the socket
            if not self._disconnected.done():
                self._disconnected.set_result(None)
            return
        if not self._connected.done():
            self._connected.set_exception(_ClosedAtOnce())
        super()._on_disconnect(client, userdata, flags, reason_code, properties)
        if self._disconnected.done() and not self._disconnected.cancelled():
            # Looked at here: aiomqtt forgets the end of a connection that ends as soon as it is made.
            self._disconnected.exception()

    def _on_socket_open(self, client: PahoClient, _userdata: object, sock: Any) -> None:  # noqa: ANN401
        self._loop.call_soon_threadsafe(self._begin_reading, client, sock)  # paho connects in a thread

    def _begin_reading(self, client: PahoClient, sock: Any) -> None:  # noqa: ANN401
        if _is_open(client, sock):
            self._loop.add_reader(sock.fileno(), self._read, client)
            self._misc_task = self._loop.create_task(self._misc_loop())

    def _read(self, client: PahoClient) -> None:
        try:
            client.loop_read()
            while (pending := getattr(client.socket(), "pending", None)) and pending() > 0:  # TLS has decoded more
                client.loop_read()
        except Exception as error:  # noqa: BLE001  whatever it is, the connection is of no more use
            self._end(error)

    def _on_socket_register_write(self, client: PahoClient, _userdata: object, sock: Any) -> None:  # noqa: ANN401
        self._loop.call_soon_threadsafe(self._register_write, client, sock)

    def _register_write(self, client: PahoClient, sock: Any) -> None:  # noqa: ANN401
        if _is_open(client, sock):
            self._loop.add_writer(sock.fileno(), self._write, client)

    def _write(self, client: PahoClient) -> None:
        try:
            client.loop_write()
        except Exception as error:  # noqa: BLE001  as above
            self._end(error)

    def _end(self, error: Exception) -> None:
        if not self._disconnected.done():
            self._disconnected.set_exception(error)


class _ClosedAtOnce(aiomqtt.MqttError):
    """The connection ended before the broker had answered."""


def _tls(account: Account, url: str) -> ssl.SSLContext:
    try:
        return tls_context(account, and_system=False)
    except OSError as error:
        prefix = account.prefix
        raise LinkDown(url, str(error), f"see {prefix}TLS_CA, {prefix}TLS_CERTIFICATE and {prefix}TLS_KEY") from error


def _why_not_connected(error: Exception, peer: trouble.Peer) -> Trouble:
    if isinstance(error, _ClosedAtOnce):
        return trouble.closed_at_once(peer)
    cause = error.__cause__ or error.__context__  # aiomqtt keeps but the text of what the system said
    if isinstance(cause, WebsocketConnectionError):
        return trouble.no_websocket(peer)
    if isinstance(cause, OSError) and not isinstance(error, OSError):
        return trouble.of_connecting(cause, peer)
    return trouble.of_connecting(error, peer)


def _without_delay(client: aiomqtt.Client) -> None:
    # Nagle's algorithm and delayed acknowledgement cost 40 ms an exchange. aiomqtt's `socket_options` passes over the
    # wrapper that paho puts around a WebSocket's socket, so the option is set here for all transports.
    wrapped = client._client.socket()  # noqa: SLF001
    sock = getattr(wrapped, "_socket", wrapped)
    if isinstance(sock, socket.socket):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


async def _leave(client: _Client) -> None:
    client.timeout = LEAVE_TIMEOUT_SECONDS
    try:
        await client.__aexit__(None, None, None)
    except aiomqtt.MqttError as error:
        log.debug("the connection did not end in order", reason=str(error))
    finally:
        client.forget()


def _is_open(client: PahoClient, sock: Any) -> bool:  # noqa: ANN401  a socket, or paho's wrapper around one
    current = client.socket()
    return current is not None and current is sock and current.fileno() >= 0


def _acknowledge(paho: PahoClient, mid: int, qos: int) -> None:
    if qos and paho.is_connected():
        paho.ack(mid, qos)


def _code(reason: object) -> int:
    """Return a reason code as a number: paho has a class for it, and aiomqtt now and then a plain one."""
    return int(getattr(reason, "value", reason))  # type: ignore[call-overload,no-any-return]


def _reason(error: BaseException) -> str:
    """Say why a connection failed or ended; aiomqtt keeps the broker's own word in the cause."""
    cause = error.__cause__
    if isinstance(cause, aiomqtt.MqttCodeError) and cause.rc == _UNSPECIFIED:
        return "the connection was closed"
    return str(cause) if cause is not None and str(cause) else str(error) or type(error).__name__
