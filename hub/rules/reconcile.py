"""What a broker is to be told so that it has the accounts that it should have: the difference of two rosters.

Ours are the clients and roles that carry our text name; what other people have made there is left alone. Which password
a client has, a broker does not tell: so its text description says which of an account's passwords it was given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from hub.rules.access import INTAKE_SUFFIX, Acl, Kind, Right, roles_of
from hub.rules.secrets import key_name, password_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from broker.topics import Topics
    from hub.rules.access import Account

OURS = "holdfast"
"""The text name of each client and role that the hub has made."""

_NOTE = "generation "
_ROLES = ("worker:", "site:", "account:")

Command = dict[str, Any]
"""A command as the plugin takes it: JSON."""


class Client(NamedTuple):
    """A client of the plugin: a user name, the one client id that goes with it, and which password it has."""

    username: str
    clientid: str
    roles: frozenset[str]
    note: str


class Roster(NamedTuple):
    """Clients by user name, and roles by name; `strangers` and `strange_roles` are those that are not ours."""

    clients: Mapping[str, Client]
    roles: Mapping[str, frozenset[Acl]]
    strangers: frozenset[str] = frozenset()
    strange_roles: frozenset[str] = frozenset()


def roster_of(accounts: Iterable[Account], topics: Topics, key: bytes) -> Roster:
    """Return what a broker should have: the clients and roles of every account that lives."""
    clients: dict[str, Client] = {}
    roles: dict[str, frozenset[Acl]] = {}
    known_as = key_name(key)
    for account in accounts:
        if account.lives:
            of_account = roles_of(account, topics)
            roles |= {name: frozenset(acls) for name, acls in of_account.items() if name not in roles}
            note = f"{_NOTE}{account.generation} of key {known_as}"
            for username, clientid in connections_of(account):
                clients[username] = Client(username, clientid, frozenset(of_account), note)
    return Roster(clients, roles)


def connections_of(account: Account) -> tuple[tuple[str, str], ...]:
    """Return the user name and the client id of each connection that an account may have, by which it is the only one.

    A broker ends a connection where another comes with its client id, whoever that is. So each has its own, and an
    account that could choose could throw off anybody.
    """
    main = (account.name, account.name)
    if account.kind is not Kind.WORKER:
        return (main,)
    return main, (f"{account.name}/intake", f"{account.name}{INTAKE_SUFFIX}")


def passwords_of(accounts: Iterable[Account], key: bytes) -> Callable[[str], str]:
    """Return what finds the password of a user name."""
    owners = {username: account for account in accounts for username, _ in connections_of(account)}

    def find(username: str) -> str:
        account = owners[username]
        return password_of(key, account.name, account.generation)

    return find


def commands_for(wanted: Roster, held: Roster, password: Callable[[str], str]) -> list[Command]:
    """Return what makes `wanted` of `held`: whom to throw off first, and never a client before its roles.

    What has a stranger's name is left out (`clashes`).
    """
    clashing = clashes(wanted, held)
    new_roles = {name: acls for name, acls in wanted.roles.items() if name not in clashing}
    new_clients = {name: one for name, one in wanted.clients.items() if not clashing & {name, *one.roles}}
    return [
        *({"command": "deleteClient", "username": name} for name in _gone(held.clients, wanted.clients)),
        *(_role(name, acls, held) for name, acls in new_roles.items() if held.roles.get(name) != acls),
        *(
            _client(name, one, held, password(name))
            for name, one in new_clients.items()
            if held.clients.get(name) != one
        ),
        *({"command": "deleteRole", "rolename": name} for name in _gone(held.roles, wanted.roles)),
    ]


def clashes(wanted: Roster, held: Roster) -> frozenset[str]:
    """Return the names that we want and that somebody else has given to a client or a role of theirs."""
    return (held.strangers & wanted.clients.keys()) | (held.strange_roles & wanted.roles.keys())


def bereft(wanted: Roster, held: Roster) -> list[str]:
    """Return the client ids that lose a role by `commands_for`: what they have subscribed to by it outlives that."""
    return [
        one.clientid
        for name, one in sorted(held.clients.items())
        if one.clientid and (name not in wanted.clients or one.roles - wanted.clients[name].roles)
    ]


def sweeper(client_id: str, password: str) -> tuple[Command, Command]:
    """Return what makes a client that may connect with this client id and do nothing, and what removes it again.

    No account is called so; and one that is left behind is ours, and wanted by nobody.
    """
    name = "holdfast/sweep"
    client = {"username": name, "clientid": client_id, "password": password, "textname": OURS}
    begin = {"command": "createClient", **client, "textdescription": f"{_NOTE}0, to end a session", "roles": []}
    return begin, {"command": "deleteClient", "username": name}


def read_roster(clients: Iterable[Mapping[str, Any]], roles: Iterable[Mapping[str, Any]]) -> Roster:
    """Return what a broker has, from what the plugin lists of it."""
    our_clients: dict[str, Client] = {}
    our_roles: dict[str, frozenset[Acl]] = {}
    strangers: set[str] = set()
    strange_roles: set[str] = set()
    for one in clients:
        note = one.get("textdescription", "")
        if one.get("textname") == OURS and note.startswith(_NOTE):
            granted = frozenset(role["rolename"] for role in one.get("roles", ()))
            our_clients[one["username"]] = Client(one["username"], one.get("clientid", ""), granted, note)
        else:
            strangers.add(one["username"])
    for one in roles:
        if one.get("textname") == OURS and one["rolename"].startswith(_ROLES):
            our_roles[one["rolename"]] = _acls(one.get("acls", ()))
        else:
            strange_roles.add(one["rolename"])
    return Roster(our_clients, our_roles, frozenset(strangers), frozenset(strange_roles))


def _gone(held: Mapping[str, object], wanted: Mapping[str, object]) -> list[str]:
    return sorted(held.keys() - wanted.keys())


def _role(name: str, acls: frozenset[Acl], held: Roster) -> Command:
    command = "modifyRole" if name in held.roles else "createRole"
    lines = [
        {"acltype": acl.right.value, "topic": acl.topic, "priority": acl.priority, "allow": acl.allow}
        for acl in sorted(acls)
    ]
    return {"command": command, "rolename": name, "textname": OURS, "acls": lines}


def _client(name: str, client: Client, held: Roster, password: str) -> Command:
    # Whichever of its fields is modified, the plugin ends the client's connection (mosquitto 2.0.11).
    command = "modifyClient" if name in held.clients else "createClient"
    roles = [{"rolename": role} for role in sorted(client.roles)]
    return {
        "command": command,
        "username": name,
        "clientid": client.clientid,
        "password": password,
        "textname": OURS,
        "textdescription": client.note,
        "roles": roles,
    }


def _acls(lines: Iterable[Mapping[str, Any]]) -> frozenset[Acl]:
    """Return the lines of a role; none, where one of them is none that we know: then it is written anew."""
    try:
        return frozenset(
            Acl(Right(line["acltype"]), line["topic"], line["allow"], line.get("priority", 0)) for line in lines
        )
    except (KeyError, ValueError):
        return frozenset()
