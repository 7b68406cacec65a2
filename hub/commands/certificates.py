"""`edge-hub certificates`: makes certificates for clients, and shows when certificates end. It asks no hub."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.errors import InvalidInput
from broker.problems import Problem, shown
from broker.settings import fail

if TYPE_CHECKING:
    from cryptography import x509

app = typer.Typer(no_args_is_help=True, help="Make clients' certificates, and see when certificates end.")

Directory = Annotated[Path, typer.Argument(metavar="DIRECTORY", help="As of `edge-hub broker init`.")]


@app.command()
def client(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose it is, such as a worker's id: the common name.")],
    *,
    directory: Annotated[
        Path | None, typer.Option("--from", metavar="DIRECTORY", help="As of `edge-hub broker init`: its CA signs.")
    ] = None,
    ca: Annotated[tuple[Path, Path] | None, typer.Option(metavar="CERT KEY", help="Or sign with this CA.")] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where NAME.crt and NAME.key go.")] = Path(),
) -> None:
    """Make a certificate for a client of a broker that asks for one; or the next one, before the last one ends."""
    from hub.certificate_files import read_authority  # noqa: PLC0415  `serve` makes no certificates
    from hub.certificates import issue_client  # noqa: PLC0415
    from hub.kept_files import PRIVATE, PUBLIC, make_folder, write_file  # noqa: PLC0415

    if (directory is None) == (ca is None):
        fail("--from, --ca: expected one of the two, to say who signs")
    try:
        signer = ca or ((directory or Path()) / "ca.crt", (directory or Path()) / "ca.key")
        pair = issue_client(read_authority(*signer), name, dt.datetime.now(dt.UTC))
        make_folder(out, 0o755)
        write_file(out / f"{name}.key", pair.key, PRIVATE)
        write_file(out / f"{name}.crt", pair.certificate, PUBLIC)
    except InvalidInput as error:
        fail(*(str(problem) for problem in error.problems))
    typer.echo(f"{out / name}.crt, {out / name}.key")


@app.command("list")
def list_certificates(directory: Directory) -> None:
    """Show each certificate under a directory: whose it is, and when it ends. Exits with 2 if one cannot be read."""
    from hub.certificate_files import read_certificates  # noqa: PLC0415

    now = dt.datetime.now(dt.UTC)
    paths, problems = _found(directory)
    for path in paths:
        try:
            typer.echo(_line(path, read_certificates(path)[0], now))
        except InvalidInput as error:
            problems += map(str, error.problems)
    if problems or not paths:
        fail(*problems or (f"DIRECTORY is '{directory}': expected a directory with certificates (*.crt) in it",))


def _found(directory: Path) -> tuple[list[Path], list[str]]:
    """Return all certificates under a directory, and what of it cannot be looked into."""
    refused: list[OSError] = []
    paths = [
        Path(folder) / name
        for folder, _, names in os.walk(directory, onerror=refused.append)
        for name in names
        if name.endswith(".crt")
    ]
    expected = "a directory that can be read"
    return sorted(paths), [
        str(Problem("DIRECTORY", shown(str(one.filename)), f"{expected} ({one.strerror})")) for one in refused
    ]


def _line(path: Path, certificate: x509.Certificate, now: dt.datetime) -> str:
    from hub.certificates import fingerprint, hosts_of  # noqa: PLC0415

    ends = certificate.not_valid_after_utc
    left = f"in {(ends - now).days} days" if ends > now else "it has ended"
    whom = ", ".join(hosts_of(certificate)) or certificate.subject.rfc4514_string()
    return f"{path}: {whom}; ends {ends:%Y-%m-%d}, {left}; SHA-256 {fingerprint(certificate)[:16]}…"
