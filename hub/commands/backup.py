"""`edge-hub backup` and `edge-hub restore`: the database and the hub's key, as one file."""

from __future__ import annotations

import shutil
import sys
import tempfile
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.errors import SettingsError
from broker.settings import fail, load_or_exit
from hub.errors import BackupFailed, DatabaseInUse, RestoreRefused
from hub.settings import HubSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hub.store.restore import Restored

STREAM = Path("-")
PIECE_BYTES = 1024 * 1024

Config = Annotated[Path | None, typer.Option("--config", help="A TOML file with settings; the environment goes first.")]


def backup(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A new file, a directory to name one in, or - (output).")
    ],
    *,
    keep: Annotated[int | None, typer.Option(min=1, help="In a directory: keep so many, the newest.")] = None,
    config: Config = None,
) -> None:
    """Copy the database and the hub's key to one file, while a hub runs or not. Prints the file's name.

    Whoever has the file can make every worker's password: it is readable by its owner alone.
    """
    from hub.store.backup import back_up, drop_old, name_in  # noqa: PLC0415  `serve` makes no backups

    settings = load_or_exit(HubSettings, config)
    if keep is not None and not file.is_dir():
        fail(f"--keep is {keep}: expected it with a directory, and {file} is none")
    database, key_file = _places(settings)
    try:
        if file == STREAM:
            _write_out(partial(back_up, database, key_file), database.parent)
            return
        to = name_in(file) if file.is_dir() else file
        back_up(database, key_file, to)
    except BackupFailed as error:
        fail(str(error))
    typer.echo(to)
    for gone in drop_old(file, keep) if keep else ():
        typer.echo(f"{gone} is removed: {keep} newer ones are kept", err=True)


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `edge-hub backup` made; - reads the input.")],
    *,
    replace: Annotated[bool, typer.Option("--replace", help="Set aside the database that is there.")] = False,
    complete: Annotated[
        bool, typer.Option("--complete", help="No hub has worked since the backup was made: judge no task anew.")
    ] = False,
    config: Config = None,
) -> None:
    """Bring a hub back to where it was when a backup was made. No hub may run meanwhile.

    Tasks that may not run twice and had not ended then become `unknown`: nobody can say whether they have run since.
    """
    from hub.commands.direct import local_user  # noqa: PLC0415  `serve` restores nothing
    from hub.store.restore import restore as put_back  # noqa: PLC0415

    settings = load_or_exit(HubSettings, config)
    database, key_file = _places(settings)
    put = partial(put_back, replace=replace, complete=complete, who=local_user())
    try:
        with _read_in(database.parent) if file == STREAM else nullcontext(file) as given:
            done = put(given, database, key_file)
    except DatabaseInUse as error:
        fail(f"{error}: stop it first")
    except RestoreRefused as error:
        fail(str(error))
    for line in _told(done, database, complete=complete):
        typer.echo(line)


def _write_out(make: Callable[[Path], object], beside: Path) -> None:
    """Make a backup where there is room for it, as for the database, and write it to the output."""
    if sys.stdout.isatty():
        fail("FILE is -: expected the output to go to a file or a program: edge-hub backup - > hub-backup.db")
    with _folder(beside) as folder:
        make(folder / "backup.db")
        with (folder / "backup.db").open("rb") as made:
            shutil.copyfileobj(made, sys.stdout.buffer, PIECE_BYTES)
        sys.stdout.buffer.flush()


@contextmanager
def _read_in(beside: Path) -> Iterator[Path]:
    """Yield a file with what comes from the input."""
    if sys.stdin.isatty():
        fail("FILE is -: expected the input to come from a file or a program: edge-hub restore - < hub-backup.db")
    with _folder(beside) as folder:
        with (folder / "backup.db").open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file, PIECE_BYTES)
        yield folder / "backup.db"


@contextmanager
def _folder(beside: Path) -> Iterator[Path]:
    try:
        beside.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".backup-", dir=beside) as name:  # mode 0700
            yield Path(name)
    except OSError as error:
        fail(f"in {beside}, where the database is: {error}")


def _places(settings: HubSettings) -> tuple[Path, Path]:
    from hub.store.files import database_file, key_file  # noqa: PLC0415

    try:
        return database_file(settings.database_url), key_file(settings)
    except SettingsError as error:
        fail(*(str(problem) for problem in error.problems))


def _told(done: Restored, database: Path, *, complete: bool) -> list[str]:
    from hub.store.restore import at  # noqa: PLC0415

    made = at(done.about.made_at_ms)
    lines = [f"{database} is as it was at {made}, when edge-hub {done.about.version} made the backup."]
    lines += [f"What was there is kept as {path}." for path in done.set_aside]
    if complete:
        return lines
    if done.unknown:
        lines.append(
            f"{done.unknown} tasks that may not run twice are unknown: see `edge-hub tasks list --state unknown` once "
            "the workers are back, and retry or resolve what is left."
        )
    if done.cancelled:
        lines.append(f"{done.cancelled} tasks for each matching worker had no children then, and are cancelled.")
    lines.append(f"Tokens and accounts are as they were then: what was revoked or rotated after {made} must be again.")
    return lines
