"""The agent's settings: environment variables with the prefix `WORKER_`, or a TOML file."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, StringConstraints
from pydantic_settings import NoDecode, SettingsConfigDict

from broker.access import BrokerAddress, ReadableFile, TopicRoot
from broker.errors import InvalidInput
from broker.log import LogFormat, LogLevel
from broker.messages import Key, Scalar
from broker.problems import Problem
from broker.settings import ProgramSettings
from broker.topics import NAME_PATTERN
from edge_agent.rules.containers.images import ImagePattern
from edge_agent.rules.containers.policy import Place
from edge_agent.rules.policy import Pattern
from edge_agent.rules.urls import UrlPattern

MAX_INTERVAL_SECONDS = 24 * 3600.0
MAX_SESSION_EXPIRY_SECONDS = 30 * 24 * 3600
VARIABLE_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]*$"
PLUGIN_PATTERN = r"^(\*|[A-Za-z_][\w-]*(\.[A-Za-z_][\w-]*)*)$"


def _hub_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        is_hub = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        is_hub = False
    if not is_hub:
        msg = "http:// or https://, a host, and maybe a port: http://hub.example:8000"
        raise ValueError(msg)
    return value.rstrip("/")


def check_hub_url(field: str, value: str) -> None:
    """See that `value` is a hub's URL. Raises `InvalidInput` that names `field`."""
    try:
        _hub_url(value)
    except ValueError as error:
        raise InvalidInput([Problem(field, f"'{value}'", str(error))]) from None


def check_name(field: str, value: str) -> None:
    """See that `value` may be a site or a worker. Raises `InvalidInput` that names `field`."""
    if not re.fullmatch(NAME_PATTERN, value):
        raise InvalidInput([Problem(field, f"'{value}'", f"a text that matches {NAME_PATTERN}")])


def _pattern(value: str) -> str:
    try:
        Pattern.parse(value)
    except InvalidInput as error:
        raise ValueError(error.problems[0].expected) from None
    return value


def _image_pattern(value: str) -> str:
    try:
        ImagePattern.parse(value)
    except InvalidInput as error:
        raise ValueError(error.problems[0].expected) from None
    return value


def _place(value: str) -> str:
    try:
        Place.parse(value)
    except InvalidInput as error:
        raise ValueError(error.problems[0].expected) from None
    return value


def _docker_url(value: str) -> str:
    parts = urlsplit(value)
    if not ((parts.scheme == "unix" and parts.path.startswith("/")) or (parts.scheme == "tcp" and parts.hostname)):
        msg = "unix:// and a path, or tcp:// and a host: unix:///var/run/docker.sock"
        raise ValueError(msg)
    return value


def _absolute(value: Path) -> Path:
    if not value.is_absolute() or ".." in value.parts:
        msg = "absolute paths without '..'"
        raise ValueError(msg)
    return value


def _url_pattern(value: str) -> str:
    try:
        UrlPattern.parse(value)
    except InvalidInput as error:
        raise ValueError(error.problems[0].expected) from None
    return value


def _listed(value: object) -> object:
    """Take a list as JSON or separated by commas."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except ValueError as error:
            msg = f"names separated by commas, or valid JSON ({error})"
            raise ValueError(msg) from None
    return [part.strip() for part in value.split(",") if part.strip()]


def _scalar(value: object) -> object:
    is_number = isinstance(value, int | float) and math.isfinite(value)
    if not is_number and not isinstance(value, str):
        msg = "true, false, a number or a text"
        raise ValueError(msg)
    return value


Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
Plugin = Annotated[str, StringConstraints(pattern=PLUGIN_PATTERN)]
Variable = Annotated[str, StringConstraints(pattern=VARIABLE_PATTERN)]
Seconds = Annotated[float, Field(ge=0.05, le=MAX_INTERVAL_SECONDS)]


class WorkerSettings(ProgramSettings):
    """Every setting of an agent, with its default."""

    model_config = SettingsConfigDict(env_prefix="WORKER_")

    id: Name | None = Field(default=None, description="The worker's name; unset, one is made and kept in offline_dir.")
    site: Name = Field(default="default", description="The site that the worker is at.")
    control_plane_url: Annotated[str, AfterValidator(_hub_url)] = Field(
        default="http://localhost:8000",
        description="The hub: tells the broker's address where none is set, and is the way where MQTT is blocked.",
    )
    broker_url: BrokerAddress | None = Field(
        default=None, description="mqtt://, mqtts://, ws:// or wss://; unset, the hub is asked."
    )
    root: TopicRoot = Field(default="edge", description="The first level of every topic.")
    poll_interval_seconds: Seconds = Field(
        default=5.0,
        description="How often tasks are asked for where MQTT is blocked, and an unreachable hub is tried.",
    )
    heartbeat_interval_seconds: Seconds = Field(default=30.0, description="How often the load is told.")
    offline_dir: Path = Field(default=Path("./offline"), description="Where tasks and results are kept.")
    capabilities: dict[Key, Annotated[Scalar, BeforeValidator(_scalar)]] = Field(
        default={}, description='What this worker has, as JSON: {"docker": true, "memory_mb": 512}.'
    )
    slots: int = Field(default=4, ge=1, le=1024, description="How many tasks run at one time.")
    plugins: Annotated[tuple[Plugin, ...], NoDecode, BeforeValidator(_listed)] = Field(
        default=(), description="Modules of handlers and installed plugins, separated by commas; * is every plugin."
    )
    schedule: ReadableFile | None = Field(
        default=None, description="A file of what this worker fires by itself, and when: see config/schedule.toml."
    )
    allow_commands: tuple[Annotated[str, AfterValidator(_pattern)], ...] = Field(
        default=(), description='Which commands may run, as JSON: ["uptime", "systemctl restart *"].'
    )
    command_dirs: tuple[Annotated[Path, AfterValidator(_absolute)], ...] = Field(
        default=(),
        description='Where a task may let a command run, and in what is below, as JSON: ["/srv/site"]. Unset, nowhere.',
    )
    command_env: Annotated[tuple[Variable, ...], NoDecode, BeforeValidator(_listed)] = Field(
        default=(),
        description="Which of the agent's variables commands get beside PATH, HOME, LANG and the like, by commas.",
    )
    command_user: str | None = Field(default=None, description="Whom commands run as; the agent must run as root.")
    command_processes: int | None = Field(
        default=None, ge=1, le=4_000_000, description="How many processes the user may have whom commands run as."
    )
    docker_url: Annotated[str, AfterValidator(_docker_url)] | None = Field(
        default=None, description="Where the Docker Engine is; unset, where DOCKER_HOST says, or at its usual socket."
    )
    allow_images: tuple[Annotated[str, AfterValidator(_image_pattern)], ...] = Field(
        default=(), description='Which images may run, as JSON: ["busybox:*", "ghcr.io/acme/**"].'
    )
    allow_mounts: tuple[Annotated[str, AfterValidator(_place)], ...] = Field(
        default=(),
        description='Which paths of the host and which volumes containers may have: ["/srv/data:ro", "cache-*"].',
    )
    allow_devices: tuple[Annotated[str, StringConstraints(pattern=r"^/dev/[^/].*$")], ...] = Field(
        default=(), description='Which devices containers may have, as JSON: ["/dev/ttyUSB*"].'
    )
    allow_urls: tuple[Annotated[str, AfterValidator(_url_pattern)], ...] | None = Field(
        default=None,
        description="Which URLs http tasks may ask, as a JSON list. Unset, any that network_access reaches.",
    )
    http_ca: ReadableFile | None = Field(
        default=None, description="A certificate authority that http tasks trust beside the system's."
    )
    buffer_max_mb: float = Field(
        default=256.0,
        gt=0,
        le=1024 * 1024,
        description="How many MB may wait for the hub. Above that progress goes first, results last.",
    )
    buffer_mode: Literal["durable", "gentle"] = Field(
        default="durable",
        description="durable commits before it acknowledges; gentle spares the disk while the hub commits promptly.",
    )
    buffer_hold_seconds: float = Field(
        default=5.0,
        gt=0,
        le=3600,
        description="How long gentle may keep events in memory: what a power cut can cost.",
    )
    log_max_mb: float = Field(
        default=16.0,
        ge=0.01,
        le=1024 * 1024,
        description="How many MB of one task's output are kept here: the newest. Of a full log the oldest half goes.",
    )
    logs_max_mb: float = Field(
        default=256.0,
        ge=0.01,
        le=1024 * 1024,
        description="How many MB of output are kept of all tasks together. The logs that ended first go first.",
    )
    session_expiry_seconds: int = Field(
        default=3600,
        ge=1,
        le=MAX_SESSION_EXPIRY_SECONDS,
        description="How long the broker keeps what is sent to this worker while it is away.",
    )
    remember_days: float = Field(default=7.0, gt=0, le=3650, description="How long the ids of ended tasks are known.")
    stop_seconds: float = Field(
        default=3.0, ge=0, le=3600, description="How long running tasks may go on after a stop was asked for."
    )
    credentials: Path | None = Field(
        default=None,
        description="What edge-agent enrol wrote: name, site, hub, account. Unset, credentials.json in offline_dir.",
    )
    enrol_token: SecretStr | None = Field(
        default=None, description="A one-time token, by which the agent enrols itself where there are no credentials."
    )
    enrol_token_file: Path | None = Field(default=None, description="A file that holds the one-time token.")
    username: str | None = Field(default=None, description="The worker's account at the broker.")
    password_file: ReadableFile | None = Field(default=None, description="A file that holds the account's password.")
    password: SecretStr | None = Field(default=None, description="The password itself; a file is better.")
    tls_ca: ReadableFile | None = Field(
        default=None, description="The certificate authority that signed the broker's certificate."
    )
    tls_certificate: ReadableFile | None = Field(default=None, description="The worker's own certificate.")
    tls_key: ReadableFile | None = Field(default=None, description="The key of the worker's own certificate.")
    status_file: Path | None = Field(
        default=None, description="Where the agent tells each 10 s how it fares; edge-agent status reads it."
    )
    log_level: LogLevel = Field(default="info", description="debug, info, warning or error.")
    log_format: LogFormat = Field(default="text", description="text or json.")

    @property
    def credentials_file(self) -> Path:
        """The file that enrolment writes."""
        return self.credentials or self.offline_dir / "credentials.json"

    @property
    def database(self) -> Path:
        """The SQLite file that holds the journal and the inbox."""
        return self.offline_dir / "journal.db"
