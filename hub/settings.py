"""The hub's settings: environment variables with the prefix `HUB_`, or a TOML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import SettingsConfigDict

from broker.errors import InvalidInput, TopicError
from broker.link import Account, BrokerUrl
from broker.log import LogFormat, LogLevel
from broker.settings import ProgramSettings
from broker.topics import Topics


def _broker_url(value: str) -> str:
    try:
        BrokerUrl.parse(value)
    except InvalidInput as error:
        raise ValueError(error.problems[0].expected) from None
    return value


def _root(value: str) -> str:
    try:
        Topics(value)
    except TopicError as error:
        raise ValueError(error.problem.expected) from None
    return value


class HubSettings(ProgramSettings):
    """Every setting of the hub, with its default."""

    model_config = SettingsConfigDict(env_prefix="HUB_")

    http_host: str = Field(default="127.0.0.1", description="The address to listen on.")
    http_port: int = Field(default=8000, ge=0, le=65535, description="The port to listen on; 0 takes a free one.")
    broker_url: Annotated[str, AfterValidator(_broker_url)] = Field(
        default="mqtt://localhost:1883", description="mqtt://, mqtts://, ws:// or wss://, host and port."
    )
    public_broker_url: Annotated[str, AfterValidator(_broker_url)] | None = Field(
        default=None, description="What workers are told, where it differs from broker_url."
    )
    root: Annotated[str, AfterValidator(_root)] = Field(default="edge", description="The first level of every topic.")
    client_id: str = Field(default="holdfast-hub", min_length=1, max_length=64, description="The hub's MQTT client id.")
    database_url: str = Field(default="sqlite:///hub.db", description="Where tasks, results and workers are kept.")
    lost_after_seconds: float = Field(
        default=90.0, gt=0, description="How long a worker may be offline with its tasks."
    )
    accept_timeout_seconds: float = Field(default=10.0, gt=0, description="How soon a worker must accept a task.")
    retention_days: float = Field(default=30.0, gt=0, description="How long ended tasks are kept. Pruning comes later.")
    allow_anonymous: bool = Field(default=False, description="Listen beyond loopback without tokens.")
    notify_urls: tuple[str, ...] = Field(default=(), description="Where incidents are told. Comes with incidents.")
    username: str | None = Field(default=None, description="The hub's account at the broker.")
    password_file: Path | None = Field(default=None, description="A file that holds the account's password.")
    password: SecretStr | None = Field(default=None, description="The password itself; a file is better.")
    tls_ca: Path | None = Field(
        default=None, description="The certificate authority that signed the broker's certificate."
    )
    tls_certificate: Path | None = Field(default=None, description="The hub's own certificate.")
    tls_key: Path | None = Field(default=None, description="The key of the hub's own certificate.")
    log_level: LogLevel = Field(default="info", description="debug, info, warning or error.")
    log_format: LogFormat = Field(default="text", description="text or json.")

    def account(self) -> Account:
        """Return how the hub shows itself to the broker. Raises `OSError` if the password file cannot be read."""
        password = self.password.get_secret_value() if self.password else None
        if self.password_file:
            password = self.password_file.read_text(encoding="utf-8").strip()
        return Account(
            username=self.username,
            password=password,
            tls_ca=str(self.tls_ca) if self.tls_ca else None,
            tls_certificate=str(self.tls_certificate) if self.tls_certificate else None,
            tls_key=str(self.tls_key) if self.tls_key else None,
        )
