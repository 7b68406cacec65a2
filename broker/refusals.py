"""What a broker refuses, by its reason code (MQTT 5, §2.4), in words that say what to do."""

from __future__ import annotations

from broker.errors import Trouble

FAILURE = 128
"""Reason codes from here are failures; 16, that nobody has subscribed, is none."""

NOT_AUTHORIZED = 135
BAD_ACCOUNT = 134
BAD_CLIENT_ID = 133
TOO_LARGE = 149
_PASSING = {128, 131, 136, 137, 147, 151, 159}
"""What may be granted when it is asked for again: a lack of room, a busy server, a reason that was not given."""

_WORDS = {
    131: "an error of its own",
    132: "it does not speak MQTT 5",
    BAD_CLIENT_ID: "the client id is not valid",
    BAD_ACCOUNT: "the account or its password is wrong",
    NOT_AUTHORIZED: "not authorized",
    136: "it is not available",
    137: "it is busy",
    138: "this client is banned",
    140: "it wants another way to authenticate",
    143: "the topic filter is not valid",
    144: "the topic name is not valid",
    TOO_LARGE: "the message is too large",
    151: "a quota is exceeded",
    153: "the payload has the wrong format",
    154: "it keeps no retained messages",
    155: "it does not support this QoS",
    156: "use another server",
    157: "the server has moved",
    159: "too many connections at a time",
}


def is_failure(code: int) -> bool:
    """Tell whether a reason code says no."""
    return code >= FAILURE


def is_passing(code: int) -> bool:
    """Tell whether what was refused with `code` may be granted later, with nothing changed by anybody."""
    return code in _PASSING


def of_connection(code: int, *, username: str | None, client_id: str, remedy: str) -> Trouble:
    """Say why the broker does not let a client in; `remedy` is how an account is got that it knows."""
    if code not in (BAD_ACCOUNT, NOT_AUTHORIZED):
        return Trouble(f"the broker refuses the connection: {in_words(code)}", _REMEDIES.get(code, ""))
    if username is None:
        return Trouble("the broker lets nobody in without an account", remedy)
    return Trouble(f"the broker refuses the account '{username}' with the client id '{client_id}'", remedy)


def of_publish(code: int, topic: str, username: str | None) -> Trouble:
    """Say why the broker did not take what was published."""
    return Trouble(f"the broker refuses to take {topic}: {in_words(code)}", _remedy(code, username, "publish"))


def of_subscribe(code: int, pattern: str, username: str | None) -> Trouble:
    """Say why the broker did not take a subscription."""
    return Trouble(f"the broker refuses to subscribe {pattern}: {in_words(code)}", _remedy(code, username, "subscribe"))


def in_words(code: int) -> str:
    """Return what a reason code means.

    >>> in_words(135), in_words(200)
    ('not authorized', 'reason code 200')
    """
    return _WORDS.get(code, f"reason code {code}")


def _remedy(code: int, username: str | None, what: str) -> str:
    if code == NOT_AUTHORIZED:
        who = f"the account '{username}'" if username else "clients without an account"
        return f"let {who} {what} there: see the broker's access rules, and that site and worker are the account's"
    return _REMEDIES.get(code, "")


_REMEDIES = {
    132: "Holdfast needs MQTT 5: Mosquitto 2.0 or later",
    TOO_LARGE: "raise message_size_limit and max_packet_size in the broker's configuration",
    137: "it is tried again",
    136: "it is tried again",
    151: "raise the broker's limits, or let it forget what nobody takes",
    159: "it is tried again; max_connections in the broker's configuration may be too low",
}
