"""The hub's settings: environment variables with the prefix `HUB_`, or a TOML file."""

from __future__ import annotations

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from broker.access import BrokerAddress, ReadableFile, TopicRoot
from broker.log import LogFormat, LogLevel
from broker.settings import ProgramSettings
from hub.rules.placement import Limit


class HubSettings(ProgramSettings):
    """Every setting of the hub, with its default."""

    model_config = SettingsConfigDict(env_prefix="HUB_")

    http_host: str = Field(default="127.0.0.1", description="The address to listen on.")
    http_port: int = Field(default=8000, ge=0, le=65535, description="The port to listen on; 0 takes a free one.")
    broker_url: BrokerAddress = Field(
        default="mqtt://localhost:1883", description="mqtt://, mqtts://, ws:// or wss://, host and port."
    )
    public_broker_url: BrokerAddress | None = Field(
        default=None, description="What workers are told, where it differs from broker_url."
    )
    root: TopicRoot = Field(default="edge", description="The first level of every topic.")
    client_id: str = Field(default="holdfast-hub", min_length=1, max_length=64, description="The hub's MQTT client id.")
    database_url: str = Field(default="sqlite:///hub.db", description="Where tasks, results and workers are kept.")
    lost_after_seconds: float = Field(
        default=90.0, gt=0, description="How long a worker may be offline with its tasks."
    )
    accept_timeout_seconds: float = Field(default=10.0, gt=0, description="How soon a worker must accept a task.")
    limits: tuple[Limit, ...] = Field(
        default=(), description="How many tasks of some sort may be with workers at one time (docs/routing.md)."
    )
    retention_days: float = Field(default=30.0, gt=0, description="How long ended tasks are kept. Pruning comes later.")
    allow_anonymous: bool = Field(default=False, description="Listen beyond loopback without tokens.")
    notify_urls: tuple[str, ...] = Field(default=(), description="Where incidents are told. Comes with incidents.")
    username: str | None = Field(default=None, description="The hub's account at the broker.")
    password_file: ReadableFile | None = Field(default=None, description="A file that holds the account's password.")
    password: SecretStr | None = Field(default=None, description="The password itself; a file is better.")
    tls_ca: ReadableFile | None = Field(
        default=None, description="The certificate authority that signed the broker's certificate."
    )
    tls_certificate: ReadableFile | None = Field(default=None, description="The hub's own certificate.")
    tls_key: ReadableFile | None = Field(default=None, description="The key of the hub's own certificate.")
    log_level: LogLevel = Field(default="info", description="debug, info, warning or error.")
    log_format: LogFormat = Field(default="text", description="text or json.")
