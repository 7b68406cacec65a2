"""The plugin's own file with accounts of ours in it, for a broker that is stopped.

Told over MQTT, thousands of accounts take long: the plugin writes its whole file after each command (mosquitto 2.0.11).
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from hub.rules.first_access import ITERATIONS, hash_of
from hub.rules.reconcile import commands_for, read_roster

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hub.rules.reconcile import Command, Roster


def filled(
    file: Mapping[str, Any], wanted: Roster, password: Callable[[str], str], salt: Callable[[], bytes]
) -> tuple[dict[str, Any], int]:
    """Return the plugin's file as it would be had it been told the difference, and how many commands that would take.

    Args:
        file: As the plugin reads it.
        wanted: What a broker should have.
        password: Finds the password of a user name.
        salt: Draws twelve random bytes.

    """
    clients = {one["username"]: one for one in file.get("clients", ())}
    roles = {one["rolename"]: one for one in file.get("roles", ())}
    commands = commands_for(wanted, read_roster(clients.values(), roles.values()), password)
    for command in commands:
        match command["command"]:
            case "createRole" | "modifyRole":
                roles[command["rolename"]] = _without(command, "command")
            case "createClient" | "modifyClient":
                clients[command["username"]] = {**_without(command, "command", "password"), **_kept(command, salt())}
            case "deleteRole":
                del roles[command["rolename"]]
            case "deleteClient":
                del clients[command["username"]]
    return {**file, "clients": list(clients.values()), "roles": list(roles.values())}, len(commands)


def _kept(command: Command, salt: bytes) -> dict[str, Any]:
    """Return what is kept of a password."""
    return {
        "password": hash_of(command["password"], salt),
        "salt": base64.b64encode(salt).decode(),
        "iterations": ITERATIONS,
    }


def _without(command: Command, *names: str) -> dict[str, Any]:
    return {name: value for name, value in command.items() if name not in names}
