"""Looks at what the agent loads when it starts: plugins, what their handlers need, the schedule, the commands' user."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.doctor import bad, ok, warn
from broker.errors import InvalidInput
from broker.messages import BUILT_IN_KINDS
from broker.requirements import unmet
from edge_agent import plugins
from edge_agent.detection import detect
from edge_agent.errors import PluginError
from edge_agent.executors import Registry
from edge_agent.schedule import file as schedule_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from broker.doctor import Finding
    from edge_agent.doctor.ground import Ground
    from edge_agent.settings import WorkerSettings


async def look(ground: Ground) -> Sequence[Finding]:
    """Load what the agent would load. What a plugin does when it is imported, it does here, too."""
    settings = ground.settings
    try:
        registry = _registry(settings)
    except PluginError as error:
        return [bad(str(error), "correct WORKER_PLUGINS, or install what the module needs where the agent runs")]
    except InvalidInput as error:
        return [bad(str(problem), "correct it, or leave it unset") for problem in error.problems]
    return [*_handlers(settings, registry), *_commands(settings), *_schedule(settings, registry)]


def _registry(settings: WorkerSettings) -> Registry:
    agents = plugins.load(settings.plugins)
    return Registry.of(
        (handler for agent in agents for handler in agent.handlers.values()),
        allow_commands=settings.allow_commands,
        command_dirs=settings.command_dirs,
        command_env=settings.command_env,
        command_user=settings.command_user,
        command_processes=settings.command_processes,
        allow_urls=settings.allow_urls,
        http_ca=settings.http_ca,
    )


def _handlers(settings: WorkerSettings, registry: Registry) -> Iterator[Finding]:
    has = {**detect(), **settings.capabilities}
    own = sorted(set(registry.kinds) - BUILT_IN_KINDS)
    lacking = {kind: unmet(registry.kinds[kind].requires, has) for kind in own}
    can = [kind for kind in own if not lacking[kind]]
    if can or not own:
        yield ok(f"{len(can)} handlers: {', '.join(can)}" if can else "no plugins with handlers")
    for kind, reasons in lacking.items():
        if reasons:
            what = f"{kind} is not offered: {'; '.join(reasons)}"
            yield warn(what, "if the worker has it, say so in WORKER_CAPABILITIES; else do not load the plugin here")


def _commands(settings: WorkerSettings) -> Iterator[Finding]:
    if settings.allow_commands:
        user = settings.command_user
        yield ok(f"{len(settings.allow_commands)} commands may run" + (f", as {user}" if user else ""))


def _schedule(settings: WorkerSettings, registry: Registry) -> Iterator[Finding]:
    if settings.schedule is None:
        return
    try:
        jobs = schedule_file.read(settings.schedule, registry.kinds)
    except InvalidInput as error:
        yield from (bad(str(problem), f"correct it in {settings.schedule}") for problem in error.problems)
    else:
        yield ok(f"{len(jobs)} jobs in {settings.schedule}")
