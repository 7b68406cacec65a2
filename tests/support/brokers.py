"""Brokers with a configuration of ours, as it stands under config/, with the places and ports of a test."""

from __future__ import annotations

import base64
import getpass
import json
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

from broker.local import HOST, PrivateBroker, free_port
from broker.topics import Topics
from hub.rules.access import Kind, acls_of
from hub.rules.first_access import ITERATIONS, SALT_BYTES, hash_of
from tests.support.programs import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hub.rules.access import Account

PLUGIN = "mosquitto_dynamic_security.so"


class ConfiguredBroker(PrivateBroker):
    """A mosquitto that runs with a file of config/mosquitto.

    Args:
        name: The file's.
        directory: Where the broker's own things go.
        changes: What is to stand where what is written in the file; each must stand there.
        port: Where the first listener is.

    """

    def __init__(self, name: str, directory: Path, changes: Mapping[str, str], *, port: int = 0) -> None:
        super().__init__(directory=directory, port=port)
        self._name = name
        self.websocket_port = free_port()
        self.changes = dict(changes)

    def configuration(self) -> str:
        """Return the file, changed."""
        text = (ROOT / "config" / "mosquitto" / self._name).read_text("utf-8")
        for old, new in {"/var/lib/mosquitto/": f"{self.directory}/", **self.changes}.items():
            assert old in text, old
            text = text.replace(old, new)
        return f"user {getpass.getuser()}\n{text}"


def production(place: Path, directory: Path, *, websocket: bool = False, mutual: bool = False) -> ConfiguredBroker:
    """Return a broker with production.conf and what `edge-hub broker init` has made in `place`.

    Args:
        place: The directory of `broker init`.
        directory: Where the broker's own things go.
        websocket: Whether it speaks MQTT over WebSocket too.
        mutual: Whether clients show certificates.

    """
    broker = ConfiguredBroker("production.conf", directory, {}, port=free_port())
    broker.changes = {
        "/etc/holdfast/broker": str(place),
        f"\nplugin /usr/lib/{PLUGIN}\n": f"\nplugin {find_plugin()}\n",
        "\nlistener 8883\n": f"\nlistener {broker.port} {HOST}\n",
    }
    if websocket:
        broker.changes["\n#listener 9443\n"] = f"\nlistener {broker.websocket_port} {HOST}\n"
        broker.changes |= {f"\n#{line}": f"\n{line}" for line in ("protocol websockets", "certfile", "keyfile")}
    if mutual:
        broker.changes |= {f"\n#{line}": f"\n{line}" for line in ("cafile", "require_certificate true")}
    return broker


def with_bridge(place: Path, directory: Path, *, hub_port: int, password: str) -> ConfiguredBroker:
    """Return a site's own broker with site-bridge.conf, whose bridge goes to `hub_port` of this machine.

    Args:
        place: Where the files are that it names under /etc/holdfast/site.
        directory: Where the broker's own things go.
        hub_port: Where the hub's broker is found.
        password: That of the bridge's account.

    """
    broker = ConfiguredBroker("site-bridge.conf", directory, {}, port=free_port())
    broker.changes = {
        "\naddress hub-broker.example:8883\n": f"\naddress localhost:{hub_port}\n",
        "\nremote_password PASSWORD\n": f"\nremote_password {password}\n",
        "/etc/holdfast/site/": f"{place}/",
        "\nlistener 8883\n": f"\nlistener {broker.port} {HOST}\n",
        "\nrestart_timeout 1 30\n": "\nrestart_timeout 1 2\n",
        "\nkeepalive_interval 20\n": "\nkeepalive_interval 5\n",
    }
    return broker


def find_plugin() -> str:
    """Return where the dynamic security plugin is; it comes with mosquitto."""
    return str(next(Path("/usr/lib").glob(f"*/{PLUGIN}")))


def give_account(place: Path, account: Account, password: str) -> None:
    """Add an account to what a broker starts with, as the hub would add it to one that runs.

    A bridge's is good for the client id of its name alone, as the hub makes it; with others any will do.
    """
    acls = [
        {"acltype": acl.right, "topic": acl.topic, "priority": acl.priority, "allow": acl.allow}
        for acl in acls_of(account, Topics())
    ]
    role = {"rolename": f"{account.kind}:{account.name}", "acls": acls}
    client_id = account.name if account.kind is Kind.BRIDGE else None
    add_client(place / "mosquitto" / "dynamic-security.json", account.name, password, role, client_id=client_id)


def add_client(
    file: Path, username: str, password: str, role: Mapping[str, Any] | None, *, client_id: str | None = None
) -> None:
    """Add a client to what the plugin starts with, and its role, if it has one, in the place of one of that name."""
    accounts: dict[str, Any] = json.loads(file.read_text("utf-8"))
    salt = secrets.token_bytes(SALT_BYTES)
    client = {"username": username, "password": hash_of(password, salt), "iterations": ITERATIONS}
    client |= {"salt": base64.b64encode(salt).decode(), "roles": [{"rolename": role["rolename"]}] if role else []}
    client |= {"clientid": client_id} if client_id else {}
    accounts["clients"].append(client)
    if role:
        others = [one for one in accounts["roles"] if one["rolename"] != role["rolename"]]
        accounts["roles"] = [*others, dict(role)]
    file.write_text(json.dumps(accounts), "utf-8")
