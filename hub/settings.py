"""The hub's settings: environment variables with the prefix `HUB_`, or a TOML file."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import SettingsConfigDict

from broker.access import BrokerAddress, ReadableFile, TopicRoot
from broker.log import LogFormat, LogLevel
from broker.settings import ProgramSettings
from hub.rules.placement import Limit


def _network(value: str) -> str:
    try:
        ipaddress.ip_network(value)
    except ValueError:
        msg = "an address or a network, as in 10.0.0.7 or 10.0.0.0/8"
        raise ValueError(msg) from None
    return value


Network = Annotated[str, AfterValidator(_network)]
"""An address, or all that begin alike: `10.0.0.0/8`."""


class HubSettings(ProgramSettings):
    """Every setting of the hub, with its default."""

    model_config = SettingsConfigDict(env_prefix="HUB_")
    others: ClassVar[frozenset[str]] = frozenset({"HUB_URL", "HUB_TOKEN", "HUB_TOKEN_FILE", "HUB_CA"})

    http_host: str = Field(default="127.0.0.1", description="The address to listen on.")
    http_port: int = Field(default=8000, ge=0, le=65535, description="The port to listen on; 0 takes a free one.")
    http_tls_certificate: ReadableFile | None = Field(
        default=None, description="The certificate of the API, with what signed it: then it takes HTTPS only."
    )
    http_tls_key: ReadableFile | None = Field(
        default=None, description="The key of the API's certificate, where it is not in the same file."
    )
    trusted_proxies: tuple[Network, ...] = Field(
        default=(), description="Addresses or networks of proxies, which tell on whose behalf they ask."
    )
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
    require_tokens: bool = Field(default=False, description="Take nothing but tokens, even before the first is made.")
    manage_accounts: bool = Field(
        default=False, description="Keep the broker's accounts: it has the dynamic security plugin."
    )
    notify_urls: tuple[str, ...] = Field(default=(), description="Where incidents are told. Comes with incidents.")
    username: str | None = Field(default=None, description="The hub's account at the broker.")
    password_file: ReadableFile | None = Field(default=None, description="A file that holds the account's password.")
    password: SecretStr | None = Field(default=None, description="The password itself; a file is better.")
    key_file: Path | None = Field(
        default=None, description="The key that accounts' passwords follow from; unset: beside the database, hub.key."
    )
    public_ca: ReadableFile | None = Field(
        default=None, description="The authority that workers get when they enrol; unset: HUB_TLS_CA."
    )
    tls_ca: ReadableFile | None = Field(
        default=None, description="The certificate authority that signed the broker's certificate."
    )
    tls_certificate: ReadableFile | None = Field(default=None, description="The hub's own certificate.")
    tls_key: ReadableFile | None = Field(default=None, description="The key of the hub's own certificate.")
    log_level: LogLevel = Field(default="info", description="debug, info, warning or error.")
    log_format: LogFormat = Field(default="text", description="text or json.")
