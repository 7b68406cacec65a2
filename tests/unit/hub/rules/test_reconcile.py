"""What a broker is told: afterwards it has what it should, and what is not ours is as it was."""

from __future__ import annotations

from typing import Any

from hypothesis import given, strategies as st

from broker.topics import Topics
from hub.rules.access import Account, Kind
from hub.rules.reconcile import (
    OURS,
    Command,
    bereft,
    clashes,
    commands_for,
    passwords_of,
    read_roster,
    roster_of,
    sweeper,
)
from hub.rules.secrets import password_of

TOPICS = Topics()
KEY, OTHER_KEY = bytes(32), bytes(range(32))
NAMES = ("w1", "w2", "pub", "wall")

ACCOUNTS = st.lists(
    st.builds(
        Account,
        name=st.sampled_from(NAMES),
        kind=st.sampled_from([Kind.WORKER, Kind.PUBLISHER, Kind.BRIDGE, Kind.READER]),
        site=st.sampled_from(["site-a", "site-b"]),
        generation=st.integers(1, 2),
        created_ms=st.just(0),
        changed_ms=st.just(0),
        revoked_ms=st.sampled_from([None, 1]),
    ),
    unique_by=lambda account: account.name,
)


class Plugin:
    """What Mosquitto's dynamic security plugin does with commands, as far as they are of use here."""

    def __init__(self, clients: list[dict[str, Any]] = [], roles: list[dict[str, Any]] = []) -> None:  # noqa: B006
        self.clients = {one["username"]: one for one in clients}
        self.roles = {one["rolename"]: one for one in roles}
        self.kicked: list[str] = []

    def do(self, command: Command) -> None:
        more = {name: value for name, value in command.items() if name != "command"}
        match command["command"]:
            case "createRole":
                assert more["rolename"] not in self.roles
                self.roles[more["rolename"]] = more
            case "modifyRole":
                self.roles[more["rolename"]] |= more
            case "deleteRole":
                del self.roles[more["rolename"]]
                for one in self.clients.values():
                    assert {"rolename": more["rolename"]} not in one["roles"]
            case "createClient":
                assert more["username"] not in self.clients
                assert all(role["rolename"] in self.roles for role in more["roles"])
                self.clients[more["username"]] = more
            case "modifyClient":
                assert all(role["rolename"] in self.roles for role in more["roles"])
                self.clients[more["username"]] |= more
                self.kicked.append(more["username"])
            case "deleteClient":
                del self.clients[more["username"]]
                self.kicked.append(more["username"])

    def obey(self, accounts: list[Account], key: bytes = KEY) -> int:
        """Be brought in step; return how many commands that took."""
        held = read_roster(self.clients.values(), self.roles.values())
        commands = commands_for(roster_of(accounts, TOPICS, key), held, passwords_of(accounts, key))
        for command in commands:
            self.do(command)
        return len(commands)


@given(ACCOUNTS, ACCOUNTS)
def test_whatever_it_had_it_has_then_what_it_should(before: list[Account], after: list[Account]) -> None:
    plugin = Plugin()
    plugin.obey(before)
    plugin.obey(after)

    held = read_roster(plugin.clients.values(), plugin.roles.values())
    assert held == roster_of(after, TOPICS, KEY)
    passwords = {name: one["password"] for name, one in plugin.clients.items()}
    assert passwords == {name: passwords_of(after, KEY)(name) for name in held.clients}
    assert plugin.obey(after) == 0


@given(ACCOUNTS, ACCOUNTS)
def test_nobody_loses_a_connection_whose_account_is_as_it_was(before: list[Account], after: list[Account]) -> None:
    plugin = Plugin()
    plugin.obey(before)
    plugin.obey(after)

    same = {account.name for account in after if account in before}
    assert not {username.partition("/")[0] for username in plugin.kicked} & same


def test_a_key_that_is_another_makes_other_passwords() -> None:
    plugin, accounts = Plugin(), [Account("w1", Kind.WORKER, "site-a", 1, 0, 0)]
    plugin.obey(accounts)
    plugin.obey(accounts, OTHER_KEY)

    assert plugin.clients["w1"]["password"] == password_of(OTHER_KEY, "w1", 1)
    assert plugin.clients["w1/intake"]["password"] == password_of(OTHER_KEY, "w1", 1)


def test_each_connection_of_a_worker_has_a_client_id_of_its_own() -> None:
    clients = roster_of([Account("w1", Kind.WORKER, "site-a", 1, 0, 0)], TOPICS, KEY).clients

    assert {one.username: one.clientid for one in clients.values()} == {"w1": "w1", "w1/intake": "w1-intake"}


def test_what_others_have_made_is_left_alone() -> None:
    clients: list[dict[str, Any]] = [
        {"username": "admin", "roles": [{"rolename": "admin"}]},
        {"username": "holdfast-hub", "textname": "Holdfast's hub", "roles": [{"rolename": "hub"}]},
        {"username": "theirs", "textname": OURS, "textdescription": "made by hand", "roles": []},
    ]
    roles: list[dict[str, Any]] = [
        {"rolename": "admin", "acls": []},
        {"rolename": "worker:x", "textname": "by hand", "acls": []},
    ]
    plugin = Plugin(clients, roles)
    plugin.obey([Account("w1", Kind.WORKER, "site-a", 1, 0, 0)])
    plugin.obey([])

    assert (plugin.clients, plugin.roles) == (Plugin(clients, roles).clients, Plugin(clients, roles).roles)


def test_a_role_of_ours_with_lines_that_nobody_knows_is_written_anew() -> None:
    accounts = [Account("w1", Kind.WORKER, "site-a", 1, 0, 0)]
    plugin = Plugin()
    plugin.obey(accounts)
    plugin.roles["worker:w1"]["acls"] = [{"acltype": "of a later release", "topic": "#", "allow": True}]

    assert plugin.obey(accounts) == 1
    assert read_roster(plugin.clients.values(), plugin.roles.values()) == roster_of(accounts, TOPICS, KEY)


def test_a_name_that_is_taken_there_is_told_and_stops_nobody_else() -> None:
    plugin = Plugin([{"username": "w1", "roles": []}])
    accounts = [Account(name, Kind.WORKER, "site-a", 1, 0, 0) for name in ("w1", "w2")]
    plugin.obey(accounts)

    held = read_roster(plugin.clients.values(), plugin.roles.values())
    assert clashes(roster_of(accounts, TOPICS, KEY), held) == {"w1"}
    assert plugin.clients["w1"] == {"username": "w1", "roles": []}
    assert "w2" in plugin.clients


def test_nobody_is_given_a_role_that_somebody_else_has_made() -> None:
    plugin = Plugin(roles=[{"rolename": "worker:w1", "acls": [], "textname": "by hand"}])
    accounts = [Account("w1", Kind.WORKER, "site-a", 1, 0, 0)]
    plugin.obey(accounts)

    assert plugin.clients == {}
    held = read_roster(plugin.clients.values(), plugin.roles.values())
    assert clashes(roster_of(accounts, TOPICS, KEY), held) == {"worker:w1"}


def test_a_client_and_a_role_may_have_the_same_name() -> None:
    roles: list[dict[str, Any]] = [{"rolename": "hub", "acls": [], "textname": "Holdfast's hub"}]
    clients: list[dict[str, Any]] = [{"username": "worker:w1", "roles": []}]
    plugin = Plugin(clients, roles)
    accounts = [Account(name, Kind.WORKER, "site-a", 1, 0, 0) for name in ("hub", "w1")]
    plugin.obey(accounts)

    held = read_roster(plugin.clients.values(), plugin.roles.values())
    assert not clashes(roster_of(accounts, TOPICS, KEY), held)
    assert {"hub", "hub/intake", "w1", "w1/intake"} <= plugin.clients.keys()


def test_who_is_revoked_or_moves_loses_what_it_has_subscribed_to_and_nobody_else_does() -> None:
    accounts = [Account(name, Kind.WORKER, "site-a", 1, 0, 0) for name in ("w1", "w2", "w3")]
    plugin = Plugin()
    plugin.obey(accounts)
    held = read_roster(plugin.clients.values(), plugin.roles.values())
    after = [
        accounts[0]._replace(revoked_ms=1),
        accounts[1]._replace(site="site-b"),
        accounts[2]._replace(generation=2),
    ]

    assert bereft(roster_of(after, TOPICS, KEY), held) == ["w1", "w1-intake", "w2", "w2-intake"]
    assert bereft(held, read_roster([], plugin.roles.values())) == []


def test_what_ends_a_session_is_taken_for_no_account_and_removed_if_it_is_left_behind() -> None:
    plugin, accounts = Plugin(), [Account("w1", Kind.WORKER, "site-a", 1, 0, 0)]
    plugin.obey(accounts)
    begin, _ = sweeper("w1-intake", "secret")
    plugin.do(begin)

    assert plugin.obey(accounts) == 1
    assert plugin.clients.keys() == {"w1", "w1/intake"}
