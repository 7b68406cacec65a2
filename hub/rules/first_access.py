"""What a broker's dynamic security plugin begins with: the hub's account, and nothing for anybody else.

The plugin reads it when the broker starts, and writes the same file whenever the hub changes something
(mosquitto 2.0.11, plugins/dynamic-security).
"""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any

from hub.rules.access import Account, Kind, acls_of

if TYPE_CHECKING:
    from broker.topics import Topics

HUB_USERNAME = "holdfast-hub"
HUB_ROLE = "hub"

SALT_BYTES = 12
"""As long as the plugin expects it to be."""

ITERATIONS = 101
"""The plugin's own. Few, which does not matter: what is hashed is not a word but 32 random bytes."""

DENIED = {"publishClientSend": False, "publishClientReceive": False, "subscribe": False, "unsubscribe": False}


def first_configuration(
    username: str, password: str, salt: bytes, topics: Topics, *, client_id: str = HUB_USERNAME
) -> dict[str, Any]:
    """Return the plugin's configuration with one account, which may do whatever the hub does.

    Args:
        username: The hub's user name.
        password: Its password.
        salt: 12 random bytes.
        topics: What the topics are called.
        client_id: The hub's client id: with another the account cannot be used.

    """
    client = {
        "username": username,
        "clientid": client_id,
        "textname": "Holdfast's hub",
        "password": hash_of(password, salt),
        "salt": base64.b64encode(salt).decode(),
        "iterations": ITERATIONS,
        "roles": [{"rolename": HUB_ROLE}],
    }
    hub = Account(username, Kind.HUB, None, generation=1, created_ms=0, changed_ms=0)
    acls = [
        {"acltype": acl.right, "topic": acl.topic, "priority": acl.priority, "allow": acl.allow}
        for acl in acls_of(hub, topics)
    ]
    return {
        "defaultACLAccess": dict(DENIED),
        "clients": [client],
        "groups": [],
        "roles": [{"rolename": HUB_ROLE, "textname": "Holdfast's hub", "acls": acls}],
    }


def hash_of(password: str, salt: bytes) -> str:
    """Return what the plugin keeps of a password: PBKDF2 with HMAC-SHA512, 64 bytes, in base64."""
    return base64.b64encode(hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ITERATIONS)).decode()
