"""Why a connection could not be made, told apart: each with what to do about it. By MQTT and by HTTP alike.

What the operating system and the TLS library say is exact, and of little use to who has to mend it.
"""

from __future__ import annotations

import errno
import socket
import ssl
from dataclasses import dataclass

from broker.errors import Trouble

EXPIRED, NOT_YET_VALID = 10, 9
OTHER_HOST, OTHER_ADDRESS = 62, 64
"""X509_V_ERR_… of OpenSSL: `man X509_STORE_CTX_get_error`."""

OTHER_PORT = "check the port: TLS has one of its own (8883 for MQTT, 443 for HTTP)"

_NO_SUCH_NAME = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
_NO_ROUTE = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTDOWN}


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Who was to be reached.

    Attributes:
        host: A name or an address.
        port: Where it listens.
        secure: Whether by TLS.
        ca: The authority that is trusted; None is the system's.
        prefix: What the variables begin with that the remedies name: `WORKER_`.

    """

    host: str
    port: int
    secure: bool
    ca: str | None = None
    prefix: str = ""


def of_connecting(error: BaseException, peer: Peer) -> Trouble:
    """Say why a connection to `peer` failed with `error`; one that is not known in its own words."""
    if isinstance(error, ssl.SSLError):
        return _of_tls(error, peer)
    if isinstance(error, socket.gaierror):
        return _of_name(error, peer)
    return _of_network(error, peer)


def _of_network(error: BaseException, peer: Peer) -> Trouble:
    where = f"{peer.host}:{peer.port}"
    match error:
        case ConnectionRefusedError():
            return Trouble(f"connection refused: nothing listens at {where}", "see that it runs, and check the port")
        case TimeoutError():
            return Trouble(f"no answer in time from {where}", "check the address; a firewall may drop what is sent")
        case ConnectionResetError() | BrokenPipeError() if peer.secure:
            return _ended_handshake(peer)
        case OSError() if error.errno in _NO_ROUTE:
            return Trouble(f"there is no way to {where} ({error.strerror})", "check this machine's network")
    return Trouble(str(error) or type(error).__name__)


def closed_at_once(peer: Peer) -> Trouble:
    """Say that `peer` ended the connection where it should have answered."""
    reason = f"{peer.host}:{peer.port} closed the connection and did not answer"
    if peer.secure:
        wants = f"it may want a client certificate: {peer.prefix}TLS_CERTIFICATE and {peer.prefix}TLS_KEY"
        return Trouble(reason, wants)
    return Trouble(reason, "it may be a listener for TLS, or for something else: check the scheme and the port")


def no_websocket(peer: Peer) -> Trouble:
    """Say that `peer` does not speak WebSocket."""
    reason = f"{peer.host}:{peer.port} does not speak WebSocket there"
    return Trouble(reason, "check the port and the path; a proxy on the way may not let it pass")


def _of_tls(error: ssl.SSLError, peer: Peer) -> Trouble:
    where = f"{peer.host}:{peer.port}"
    if not isinstance(error, ssl.SSLCertVerificationError):
        if error.reason and "CERTIFICATE_REQUIRED" in error.reason:
            return closed_at_once(peer)
        if error.reason and "EOF" in error.reason:
            return _ended_handshake(peer)
        return Trouble(f"{where} does not speak TLS as we do ({error.reason or error})", OTHER_PORT)
    match error.verify_code:
        case int(code) if code == EXPIRED:
            reason, remedy = "has expired", "renew it there, or set this machine's clock if that is wrong"
        case int(code) if code == NOT_YET_VALID:
            reason, remedy = "is not valid yet", "set this machine's clock; the certificate begins later than it says"
        case int(code) if code in (OTHER_HOST, OTHER_ADDRESS):
            reason = f"is not for '{peer.host}'"
            remedy = "use a name that stands in the certificate, or have one made for this name"
        case _:
            reason = f"is signed by nobody whom {peer.ca or 'this system'} vouches for ({error.verify_message})"
            remedy = f"set {peer.prefix}TLS_CA to the authority that signed it"
    return Trouble(f"the certificate of {where} {reason}", remedy)


def _ended_handshake(peer: Peer) -> Trouble:
    reason = f"{peer.host}:{peer.port} ended the TLS handshake: it may not speak TLS there, or not now"
    return Trouble(reason, OTHER_PORT)


def _of_name(error: socket.gaierror, peer: Peer) -> Trouble:
    if error.errno in _NO_SUCH_NAME:
        return Trouble(f"there is no host '{peer.host}'", "check the name, and which DNS this machine asks")
    return Trouble(f"the name '{peer.host}' cannot be looked up: {error.strerror}", "check this machine's DNS")
