"""`edge-hub audit`: shows who did what, from the hub's database itself."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.problems import Problem, shown
from broker.settings import fail
from hub.rules.audit import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping

Config = Annotated[Path | None, typer.Option("--config", help="The hub's file of settings, as `serve` takes it.")]


def audit(
    *,
    since: Annotated[str | None, typer.Option(help="From then on (RFC 3339; without a zone, UTC).")] = None,
    who: Annotated[str | None, typer.Option(help="What somebody did: token:ci, local:root, worker:w1.")] = None,
    action: Annotated[str | None, typer.Option(help="One action, or all of a kind: token.created, token.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many lines, the newest.")] = 100,
    config: Config = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Show who did what, and who was refused, oldest first."""
    from hub.api.audit import audit_shape  # noqa: PLC0415  it brings the database toolkit
    from hub.commands.direct import directly  # noqa: PLC0415
    from hub.store.audit import AuditFilter, list_audit  # noqa: PLC0415

    wanted = AuditFilter(who=who, action=action, since_ms=_ms(since))
    with directly(config) as direct:
        page = list_audit(direct.connection, wanted, limit=limit, cursor=None)
    for row in reversed(page.items):
        line = audit_shape(row)
        typer.echo(json.dumps(line, ensure_ascii=False) if as_json else _in_words(line))


def _in_words(line: Mapping[str, object]) -> str:
    """Return a line as people read it, whatever a stranger has put into it."""
    from hub.terminal import visible  # noqa: PLC0415

    said = f"{line['at']}  {line['who']}"
    said += f" ({line['address']})" if line["address"] else ""
    said += f"  {line['action']}"
    said += f"  {line['target']}" if line["target"] else ""
    said += "" if line["outcome"] == Outcome.DONE else f"  {line['outcome']}"
    return visible(said + (f": {line['detail']}" if line["detail"] else ""))


def _ms(since: str | None) -> int | None:
    if since is None:
        return None
    try:
        at = datetime.fromisoformat(since)
    except ValueError:
        fail(str(Problem("--since", shown(since), "a time, as in 2026-12-01T08:00:00Z")))
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
