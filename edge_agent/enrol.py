"""`edge-agent enrol`: trades a one-time token for this worker's credentials, and says what came of it.

What would be found out only when the agent starts is found out before the token is used up.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from broker.errors import InvalidInput, LinkDown, SettingsError
from broker.problems import Problem, shown
from broker.settings import fail
from edge_agent import credentials
from edge_agent.enrolment import Wish, enrol
from edge_agent.errors import EnrolmentRefused, StorageError
from edge_agent.offline import OfflineDir
from edge_agent.rules import enrolling
from edge_agent.self_enrolment import read_token
from edge_agent.settings import check_hub_url, check_name
from edge_agent.store.sqlite import connect_to_read

if TYPE_CHECKING:
    from pathlib import Path

    from edge_agent.credentials import Credentials
    from edge_agent.rules.enrolling import Token
    from edge_agent.settings import WorkerSettings

EXIT_REFUSED = 1
"""The exit code when the hub says no or does not answer. A wrong option or setting is 2."""

_WAITING = "SELECT (SELECT count(*) FROM journal) + (SELECT count(*) FROM inbox)"


class Given(NamedTuple):
    """The options; what is None is what the settings say."""

    hub: str | None = None
    token: str | None = None
    token_file: Path | None = None
    site: str | None = None
    worker: str | None = None
    ca: Path | None = None
    replaces: bool = False


def enrol_worker(settings: WorkerSettings, given: Given) -> None:
    """Enrol this worker, or end the program with a line that says why not, and what to do."""
    try:
        wish = _wish(settings, given)
        _warn_of_clear_text(wish.hub)
        got = asyncio.run(enrol(wish, settings.credentials_file))
    except InvalidInput as error:
        fail(*(str(problem) for problem in error.problems))
    except StorageError as error:
        fail(f"WORKER_OFFLINE_DIR is '{error.path}': {error.reason}")
    except OSError as error:
        fail(f"WORKER_CREDENTIALS is '{settings.credentials_file}': expected a place to write to ({error.strerror})")
    except EnrolmentRefused as error:
        _end(str(error))
    except LinkDown as down:
        _end(f"{down}" + (f" ({down.remedy})" if down.remedy else ""), "The token is still good: try again.")
    sys.stdout.write("".join(f"{line}\n" for line in _report(got, settings.credentials_file)))


def _wish(settings: WorkerSettings, given: Given) -> Wish:
    """Return what to ask for. Raises `InvalidInput` or `StorageError`."""
    before = _before(settings, given)
    _check_against(settings, given)
    offline = OfflineDir(settings.offline_dir)
    offline.make()
    owner = offline.owner() or (before and (before.site, before.worker))
    worker = given.worker or settings.id or (before.worker if before else offline.worker_id())
    site = given.site or (settings.site if "site" in settings.model_fields_set else None)
    if owner:
        site = _beside_what_waits(settings, owner, worker, site)
    hub = given.hub or ("control_plane_url" not in settings.model_fields_set and before and before.hub)
    ca = given.ca or settings.tls_ca
    token = _token(settings, given)
    return Wish((hub or settings.control_plane_url).rstrip("/"), token, worker, site, str(ca) if ca else None)


def _before(settings: WorkerSettings, given: Given) -> Credentials | None:
    """Return the credentials that are there; they are in the way unless they are to be replaced."""
    file = settings.credentials_file
    try:
        before = credentials.read(file)
    except SettingsError:
        if given.replaces:
            return None
        raise
    if before and not given.replaces:
        what = f"of {before.worker} at {before.site}, enrolled with {before.hub}"
        raise InvalidInput([Problem(str(file), what, "none yet, or --replace, which trades a new token for others")])
    return before


def _check_against(settings: WorkerSettings, given: Given) -> None:
    """See that the options are well-formed, and that the agent will agree with them when it starts."""
    if given.hub is not None:
        check_hub_url("--hub", given.hub)
    for option, value, was in (("worker", given.worker, settings.id), ("site", given.site, settings.site)):
        if value is None:
            continue
        check_name(f"--{option}", value)
        variable = "id" if option == "worker" else option
        if variable in settings.model_fields_set and value != was:
            expected = f"'{was}', as WORKER_{variable.upper()} says: set that, or leave it unset"
            raise InvalidInput([Problem(f"--{option}", f"'{value}'", expected)])


def _beside_what_waits(settings: WorkerSettings, owner: tuple[str, str], worker: str, site: str | None) -> str | None:
    """Return the site to ask for: while anything of another worker or site waits here, it must not get a new name."""
    waiting = _waiting(settings.database)
    if not waiting:
        return site
    if (site or owner[0], worker) == owner:
        return owner[0]
    what = f"{waiting} events and tasks of {owner[1]} at {owner[0]} wait in {settings.offline_dir}"
    way = "the same one until they are delivered (edge-agent buffer shows them), or another WORKER_OFFLINE_DIR"
    raise InvalidInput([Problem("the worker", f"'{worker}' at '{site or owner[0]}', and {what}", way)])


def _waiting(database: Path) -> int:
    """Return how much waits in the journal; a file that cannot be read is the agent's to set aside."""
    if not database.is_file():
        return 0
    try:
        with closing(connect_to_read(database)) as connection:
            return int(connection.execute(_WAITING).fetchone()[0])
    except sqlite3.Error:
        return 0


def _token(settings: WorkerSettings, given: Given) -> Token:
    if given.token is not None:
        return enrolling.read_token(given.token, "--token")
    if given.token_file is None:
        return read_token(settings)
    if str(given.token_file) == "-":
        return enrolling.read_token(sys.stdin.read(), "--token-file")
    try:
        return enrolling.read_token(given.token_file.read_text(encoding="utf-8"), "--token-file")
    except (OSError, UnicodeDecodeError) as error:
        expected = f"a text file that can be read ({error})"
        raise InvalidInput([Problem("--token-file", shown(str(given.token_file)), expected)]) from None


def _warn_of_clear_text(hub: str) -> None:
    if enrolling.goes_in_clear(hub):
        text = f"warning: {hub} is no https: whoever is on the way can read the token and the password"
        sys.stderr.write(f"{text}\n")


def _report(got: Credentials, file: Path) -> list[str]:
    return [
        f"{got.worker} at {got.site} is enrolled with {got.hub}",
        f"  credentials  {file}",
        f"  broker       {got.broker_url}, as {got.username}",
        f"  authority    {'the hub has its own, which is kept with them' if got.ca else 'what this system trusts'}",
    ]


def _end(*lines: str) -> NoReturn:
    sys.stderr.write("".join(f"{line}\n" for line in lines))
    sys.exit(EXIT_REFUSED)
