"""What a worker got when it was enrolled: its name, its account, and whom to trust. One file that only it can read."""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import TYPE_CHECKING

from pydantic import Field, ValidationError

from broker.account import Account
from broker.errors import SettingsError
from broker.messages import Bootstrap, EnrolAnswer, encode
from broker.problems import Problem, explain, shown

if TYPE_CHECKING:
    from pathlib import Path

VARIABLE = "WORKER_CREDENTIALS"
PRIVATE = 0o600


class Credentials(EnrolAnswer):
    """The file. `hub` is who gave it; everything else is as the hub said it."""

    password: str = Field(repr=False)
    hub: str

    @property
    def bootstrap(self) -> Bootstrap:
        """Where the broker was when the worker was enrolled."""
        return Bootstrap(broker_url=self.broker_url, root=self.root)

    def account(self) -> Account:
        """Return the account for both connections, and the authority that was told with it."""
        again = f"edge-hub workers rotate {self.worker}"
        return Account(
            username=self.username,
            password=self.password,
            intake_username=f"{self.username}/intake",
            tls_ca_text=self.ca,
            prefix="WORKER_",
            remedy=f"enrol this worker again: edge-agent enrol --replace --token … (the hub makes one: {again})",
        )


def read(file: Path) -> Credentials | None:
    """Return what `file` holds; None where there is none.

    Raises:
        SettingsError: If it cannot be read, or holds something else. What it holds is not shown.

    """
    try:
        return Credentials.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        expected = f"a file that the agent can read ({error.strerror})"
    except ValidationError as error:
        found = explain(error, root="the file")[0]
        expected = f"what edge-agent enrol writes, and {found.field} is wrong or missing"
    raise SettingsError([Problem(VARIABLE, shown(str(file)), expected)])


def write(file: Path, credentials: Credentials) -> None:
    """Write them, whole or not at all, readable to the owner of the directory alone. Raises `OSError`."""
    write_private(file, encode(credentials))


def write_private(file: Path, content: bytes) -> None:
    """Write a file that holds a secret. One that root writes belongs to whom its directory belongs: the agent's user.

    Raises:
        OSError: If it cannot be written.

    """
    beside = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE)
    try:
        with os.fdopen(handle, "wb") as out:
            if os.geteuid() == 0:
                about = file.parent.stat()
                os.fchown(out.fileno(), about.st_uid, about.st_gid)
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        beside.replace(file)
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise
    _sync_directory(file.parent)


def _sync_directory(path: Path) -> None:
    # A name is part of its directory: without this, a power cut may forget the file that was just renamed.
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
