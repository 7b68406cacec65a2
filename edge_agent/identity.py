"""Who the worker is: by its settings, or by the credentials of its enrolment, which may come and change meanwhile."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from broker.access import account_of
from broker.errors import SettingsError
from broker.log import get_logger
from broker.problems import Problem, shown
from edge_agent import credentials

if TYPE_CHECKING:
    from pathlib import Path

    from broker.account import Account
    from broker.messages import Bootstrap
    from edge_agent.credentials import Credentials
    from edge_agent.settings import WorkerSettings

log = get_logger(__name__)


class Identity:
    """A worker's name, site and account.

    Args:
        given: The settings as they were given.

    Attributes:
        settings: The same, with what the credentials say in place of what was not set.

    Raises:
        SettingsError: If the credentials cannot be read, or say something else than the settings.

    """

    def __init__(self, given: WorkerSettings) -> None:
        self._given = given
        self._file = given.credentials_file
        self._by_settings = account_of(given, "WORKER_")
        if self._by_settings.username is None:
            self._by_settings = replace(self._by_settings, remedy=_HOW)
        self._credentials: Credentials | None = None
        self._seen: tuple[int, ...] | None = None
        self.settings = given
        self._read()

    @property
    def bootstrap(self) -> Bootstrap | None:
        """Where the broker was when the worker was enrolled."""
        return self._credentials.bootstrap if self._credentials else None

    @property
    def may_be_enrolled(self) -> bool:
        """Whether there is a token to get credentials by, and they are still to come."""
        has_token = self._given.enrol_token is not None or self._given.enrol_token_file is not None
        return has_token and self._credentials is None and self._by_settings.username is None

    def account(self) -> Account:
        """Return the account as it is now: a file that was written anew is read, if it is of the same worker."""
        try:
            self._read()
        except SettingsError as error:
            log.warning("credentials_not_taken", reason=str(error))
        mine, theirs = self._by_settings, self._credentials
        if theirs is None or mine.username is not None:
            return mine
        account = theirs.account()
        return replace(
            account,
            tls_ca=mine.tls_ca,
            tls_ca_text=None if mine.tls_ca else account.tls_ca_text,
            tls_certificate=mine.tls_certificate,
            tls_key=mine.tls_key,
        )

    def _read(self) -> None:
        """Read the file, if it is not the one that was read before. Raises `SettingsError`."""
        seen = _stamp(self._file)
        if seen == self._seen or (seen is None and self._credentials):
            return  # a file that has gone says nothing: what it said holds on
        self._seen = seen
        found = credentials.read(self._file)
        if found is None:
            return
        settings = settled(self._given, found, self._file)
        if self._credentials:
            self._compare(self._credentials, found)
        self._credentials, self.settings = found, settings

    def _compare(self, before: Credentials, found: Credentials) -> None:
        if (before.worker, before.site, before.root) != (found.worker, found.site, found.root):
            what = f"{found.worker} at {found.site}, and {before.worker} at {before.site} runs: restart the agent"
            problem = Problem(credentials.VARIABLE, shown(str(self._file)), f"the same worker; it is of {what}")
            raise SettingsError([problem])
        if before != found:
            log.info("credentials_taken", worker=found.worker, username=found.username)


def settled(given: WorkerSettings, found: Credentials, file: Path) -> WorkerSettings:
    """Return the settings with what credentials say in place of what was not set.

    Raises:
        SettingsError: If one that was set says something else.

    """
    values: dict[str, Any] = {"id": found.worker, "site": found.site, "root": found.root}
    problems = [
        Problem(f"WORKER_{name.upper()}", f"'{was}'", f"'{value}', of which {file} is, or not to be set")
        for name, value in values.items()
        if (was := getattr(given, name)) not in (None, value) and name in given.model_fields_set
    ]
    if problems:
        raise SettingsError(problems)
    if "control_plane_url" not in given.model_fields_set:
        values["control_plane_url"] = found.hub
    return given.model_copy(update=values)


def _stamp(file: Path) -> tuple[int, ...] | None:
    with contextlib.suppress(OSError):
        about = file.stat()
        return about.st_ino, about.st_mtime_ns, about.st_size
    return None


_HOW = "enrol this worker: edge-agent enrol --hub … --token …, with a token of edge-hub workers enrol --site …"
