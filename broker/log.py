"""Logging, the same for both programs: one line an event, `key=value`, or JSON where a collector reads it."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Literal, cast

# structlog loads rich where it is installed, for tracebacks that we do not show: 4 MB that an idle agent would carry.
_RICH = "rich"
_hidden = _RICH not in sys.modules
if _hidden:
    sys.modules[_RICH] = cast("ModuleType", None)  # how Python marks a module as not to be found
try:
    import structlog
finally:
    if _hidden:
        del sys.modules[_RICH]

if TYPE_CHECKING:
    from types import ModuleType

    from structlog.typing import FilteringBoundLogger, Processor

LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]


def get_logger(name: str) -> FilteringBoundLogger:
    """Return the logger of one module."""
    return cast("FilteringBoundLogger", structlog.get_logger(name))


def configure(*, level: LogLevel = "info", style: LogFormat = "text") -> None:
    """Send every log line, ours and the libraries', to standard error."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: Processor = (
        structlog.processors.JSONRenderer()
        if style == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0, sort_keys=False)
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(level),  # what is not logged costs nothing
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for chatty in (
        "aiomqtt",
        "mqtt",
        "httpx",
        "httpcore",
        "apscheduler",
        "uvicorn",
        "alembic",
        "asyncio",
        "docker",
        "urllib3",
    ):
        logging.getLogger(chatty).setLevel(logging.WARNING)
