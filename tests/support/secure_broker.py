"""A broker that knows nobody but the hub: with the dynamic security plugin, as `edge-hub broker init` prepares it."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from broker.link import Link
from broker.local import PrivateBroker
from hub.broker_init import Plan, initialise
from hub.rules.first_access import HUB_USERNAME
from tests.support.brokers import add_client, find_plugin

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from broker.account import Account


class SecureBroker(PrivateBroker):
    """A mosquitto with the plugin, in `directory`; what clients know of it is in `holdfast/` there."""

    def __init__(self, directory: Path, **options: Any) -> None:  # noqa: ANN401  as PrivateBroker takes them
        super().__init__(directory=directory, **options)
        self.place = directory / "holdfast"
        self.initialise()

    def configuration(self) -> str:
        """Return what it is started with."""
        text = super().configuration().replace("allow_anonymous true", "allow_anonymous false")
        return f"{text}plugin {find_plugin()}\nplugin_opt_config_file {self.accounts_file}\n"

    @property
    def accounts_file(self) -> Path:
        """What the plugin keeps."""
        return self.place / "mosquitto" / "dynamic-security.json"

    @property
    def hub_settings(self) -> dict[str, Any]:
        """What a hub is told that keeps its accounts."""
        return {
            "username": HUB_USERNAME,
            "password_file": self.place / "hub-password",
            "manage_accounts": True,
        }

    def initialise(self) -> None:
        """Do what `edge-hub broker init` does."""
        initialise(Plan(directory=self.place, certificates=False, owner="0"), dt.datetime.now(dt.UTC))

    def lose_disk(self) -> None:
        """Forget everything, as a broker on a new disk; to be started anew."""
        self.stop()
        self.accounts_file.unlink()
        (self.directory / "mosquitto.db").unlink(missing_ok=True)
        self.initialise()

    def add_client(self, username: str, password: str, role: Mapping[str, Any] | None = None) -> None:
        """Add somebody else's client, with a role or none, before it starts."""
        add_client(self.accounts_file, username, password, role)

    def link(self, client_id: str, account: Account, **options: Any) -> Link:  # noqa: ANN401  as Link takes them
        """Return how to connect."""
        return Link(url=self.url, client_id=client_id, account=account, **options)
