"""`edge-hub tasks`: lists, shows, explains, submits and moves tasks, by way of a hub that runs."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.errors import InvalidInput
from broker.settings import fail
from hub.commands.asking import DEFAULT_HUB, AsJson, Ca, HubUrl, Token, client_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import RenderableType

    from hub.commands.client import Client

EXIT_NOT_SUCCEEDED = 1

app = typer.Typer(no_args_is_help=True, help="Look at tasks, and move them: asks a hub that runs.")

TaskId = Annotated[str, typer.Argument(metavar="TASK", help="The task's id.")]
Reason = Annotated[str | None, typer.Option(help="Why: it is kept in the task's timeline.")]
Timeout = Annotated[float | None, typer.Option("--timeout", min=0, help="Seconds to wait at most; else to the end.")]


@app.command("list")
def list_tasks(
    *,
    site: Annotated[str | None, typer.Option(help="Of a site.")] = None,
    worker: Annotated[str | None, typer.Option(help="That a worker has or had.")] = None,
    state: Annotated[str | None, typer.Option(help="In a state: pending, running, failed, …")] = None,
    kind: Annotated[str | None, typer.Option(help="Of a kind.")] = None,
    since: Annotated[str | None, typer.Option(help="Created since then (RFC 3339).")] = None,
    parent: Annotated[str | None, typer.Option(help="The children of a task for all.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many.")] = 50,
    cursor: Annotated[int | None, typer.Option(help="Where the page before has ended.")] = None,
    hub: HubUrl = DEFAULT_HUB,
    token: Token = None,
    ca: Ca = None,
    as_json: AsJson = False,
) -> None:
    """List tasks, newest first."""
    wanted = {"site": site, "worker": worker, "state": state, "kind": kind, "since": since, "parent": parent}
    page = client_of(hub, token, ca).get("/api/tasks", **wanted, limit=limit, cursor=cursor)
    if as_json:
        _print_json(page)
        return
    from hub.commands.screen import tasks_table  # noqa: PLC0415  `serve` needs no tables

    _print(lambda width: tasks_table(page["items"], width=width))
    if page["next"]:
        typer.echo(f"There are more: --cursor {page['next']}")


@app.command()
def show(
    task: TaskId, *, hub: HubUrl = DEFAULT_HUB, token: Token = None, ca: Ca = None, as_json: AsJson = False
) -> None:
    """Show one task, its attempts, and what happened to it."""
    _show(client_of(hub, token, ca).task(task), as_json=as_json)


@app.command()
def explain(
    task: TaskId, *, hub: HubUrl = DEFAULT_HUB, token: Token = None, ca: Ca = None, as_json: AsJson = False
) -> None:
    """Say for each worker why it has the task, could have it, or cannot."""
    shape = client_of(hub, token, ca).task(task)
    if as_json:
        _print_json(shape["explain"])
        return
    from hub.commands.screen import explain_screen  # noqa: PLC0415

    _print(lambda _width: explain_screen(shape))


@app.command()
def wait(
    task: TaskId,
    *,
    timeout: Timeout = None,
    hub: HubUrl = DEFAULT_HUB,
    token: Token = None,
    ca: Ca = None,
    as_json: AsJson = False,
) -> None:
    """Wait for the end of a task. The exit code is 1 if it has not succeeded."""
    _end(client_of(hub, token, ca).wait(task, timeout), as_json=as_json)


@app.command()
def submit(
    kind: Annotated[str | None, typer.Argument(help="What kind of task: noop, command, container, …")] = None,
    *,
    body: Annotated[str | None, typer.Option("--body", help="The whole task as JSON; - reads it from stdin.")] = None,
    task_id: Annotated[str | None, typer.Option("--id", help="A name for it: sent twice, it counts once.")] = None,
    site: Annotated[str | None, typer.Option(help="Where it must run.")] = None,
    worker: Annotated[str | None, typer.Option(help="Who alone may run it.")] = None,
    param: Annotated[list[str] | None, typer.Option(help="name=value; values are JSON, or texts.")] = None,
    require: Annotated[list[str] | None, typer.Option(help="A capability: docker=true, 'cpus={\"min\":2}'.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="name=text.")] = None,
    priority: Annotated[int | None, typer.Option(help="From -100 to 100, the highest first.")] = None,
    target: Annotated[str | None, typer.Option(help="one, or all that match.")] = None,
    timeout_seconds: Annotated[float | None, typer.Option(help="How long it may run.")] = None,
    expires_in_seconds: Annotated[float | None, typer.Option(help="How long it is worth starting.")] = None,
    then_wait: Annotated[bool, typer.Option("--wait", help="Wait for its end, as `wait` does.")] = False,
    wait_timeout: Annotated[float | None, typer.Option(min=0, help="With --wait: seconds at most.")] = None,
    hub: HubUrl = DEFAULT_HUB,
    token: Token = None,
    ca: Ca = None,
    as_json: AsJson = False,
) -> None:
    """Submit a task, and print its id."""
    from hub.commands.bodies import an_object, given, pairs  # noqa: PLC0415

    with _usage():
        text = sys.stdin.read() if body == "-" else body
        asked = {
            **(an_object("--body", text) if text is not None else {}),
            **given(
                kind=kind,
                id=task_id,
                site=site,
                worker=worker,
                params=pairs("--param", param or ()),
                requires=pairs("--require", require or ()),
                labels=pairs("--label", label or (), as_text=True),
                priority=priority,
                target=target,
                timeout_seconds=timeout_seconds,
                expires_in_seconds=expires_in_seconds,
            ),
        }
    client = client_of(hub, token, ca)
    shape = client.post("/api/tasks", asked)
    if then_wait:
        _end(client.wait(shape["id"], wait_timeout), as_json=as_json)
    elif as_json:
        _print_json(shape)
    else:
        typer.echo(shape["id"])


@app.command()
def cancel(
    task: TaskId,
    *,
    reason: Reason = None,
    hub: HubUrl = DEFAULT_HUB,
    token: Token = None,
    ca: Ca = None,
    as_json: AsJson = False,
) -> None:
    """Let nobody do it any more."""
    _act(client_of(hub, token, ca), task, "cancel", {"reason": reason}, as_json=as_json)


@app.command()
def retry(
    task: TaskId,
    *,
    reason: Reason = None,
    hub: HubUrl = DEFAULT_HUB,
    token: Token = None,
    ca: Ca = None,
    as_json: AsJson = False,
) -> None:
    """Do it once more, whatever came of it."""
    _act(client_of(hub, token, ca), task, "retry", {"reason": reason}, as_json=as_json)


@app.command()
def resolve(
    task: TaskId,
    outcome: Annotated[str, typer.Argument(help="succeeded, failed or cancelled.")],
    *,
    result: Annotated[str | None, typer.Option(help="What it came to, as JSON.")] = None,
    error: Annotated[str | None, typer.Option(help="What went wrong.")] = None,
    note: Annotated[str | None, typer.Option(help="How you know.")] = None,
    hub: HubUrl = DEFAULT_HUB,
    token: Token = None,
    ca: Ca = None,
    as_json: AsJson = False,
) -> None:
    """Say what became of an unknown task."""
    from hub.commands.bodies import json_of  # noqa: PLC0415

    with _usage():
        value = None if result is None else json_of("--result", result)
    _act(
        client_of(hub, token, ca),
        task,
        "resolve",
        {"outcome": outcome, "result": value, "error": error, "note": note},
        as_json=as_json,
    )


@app.command()
def log(
    task: TaskId,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the task has ended.")] = False,
    hub: HubUrl = DEFAULT_HUB,
    token: Token = None,
    ca: Ca = None,
) -> None:
    """Print what a task has written, read from its worker."""
    for piece in client_of(hub, token, ca).log(task, follow=follow):
        sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()


def _act(client: Client, task: str, verb: str, body: dict[str, Any], *, as_json: bool) -> None:
    said = {name: value for name, value in body.items() if value is not None}
    shape = client.act(task, verb, said)
    if as_json:
        _print_json(shape)
    else:
        typer.echo(_in_a_line(shape))


def _end(shape: dict[str, Any], *, as_json: bool) -> None:
    """Print how a task stands; the exit code says whether it has succeeded."""
    if as_json:
        _print_json(shape)
    else:
        typer.echo(_in_a_line(shape))
    if shape["state"] != "succeeded":
        raise typer.Exit(EXIT_NOT_SUCCEEDED)


def _show(shape: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        _print_json(shape)
        return
    from hub.commands.screen import task_screen  # noqa: PLC0415

    _print(lambda _width: task_screen(shape))


def _in_a_line(shape: dict[str, Any]) -> str:
    from hub.terminal import detail  # noqa: PLC0415

    said = detail(shape)
    return f"{shape['id']} is {shape['state']}" + (f": {said}" if said else "")


def _print(make: Callable[[int], RenderableType]) -> None:
    from hub.terminal import console  # noqa: PLC0415

    terminal = console()
    terminal.print(make(terminal.width))


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


@contextmanager
def _usage() -> Iterator[None]:
    """End the program with one line for each option that is wrong."""
    try:
        yield
    except InvalidInput as error:
        fail(*(str(problem) for problem in error.problems))
