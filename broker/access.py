"""How a program's settings say where its broker is, and who it is there: the same for both programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

from pydantic import AfterValidator

from broker.account import Account
from broker.errors import InvalidInput, SettingsError, TopicError
from broker.problems import Problem, shown
from broker.topics import Topics
from broker.url import BrokerUrl

if TYPE_CHECKING:
    from pydantic import SecretStr


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


def _readable(value: Path) -> Path:
    try:
        with value.open("rb"):
            return value
    except OSError as error:
        msg = f"a file that can be read ({error.strerror})"
        raise ValueError(msg) from None


BrokerAddress = Annotated[str, AfterValidator(_broker_url)]
"""`mqtt://`, `mqtts://`, `ws://` or `wss://`, a host, and maybe a port; no account."""

TopicRoot = Annotated[str, AfterValidator(_root)]
"""The first level of every topic."""

ReadableFile = Annotated[Path, AfterValidator(_readable)]
"""A file that was there, and could be read, when the settings were."""


class Access(Protocol):
    """The settings by which a program shows itself to the broker."""

    @property
    def username(self) -> str | None: ...  # noqa: D102
    @property
    def password(self) -> SecretStr | None: ...  # noqa: D102
    @property
    def password_file(self) -> Path | None: ...  # noqa: D102
    @property
    def tls_ca(self) -> Path | None: ...  # noqa: D102
    @property
    def tls_certificate(self) -> Path | None: ...  # noqa: D102
    @property
    def tls_key(self) -> Path | None: ...  # noqa: D102


def account_of(settings: Access, prefix: str) -> Account:
    """Return the account that `settings` describe; a password file goes before a password.

    Raises:
        SettingsError: If the password file is no text; `prefix` is that of the program's variables.

    """
    password = settings.password.get_secret_value() if settings.password else None
    if settings.password_file:
        try:
            password = settings.password_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            name, value = f"{prefix}PASSWORD_FILE", shown(str(settings.password_file))
            raise SettingsError([Problem(name, value, f"a text file that can be read ({error})")]) from None
    return Account(
        username=settings.username,
        password=password,
        tls_ca=_text(settings.tls_ca),
        tls_certificate=_text(settings.tls_certificate),
        tls_key=_text(settings.tls_key),
        prefix=prefix,
        remedy=f"set {prefix}USERNAME and {prefix}PASSWORD_FILE to an account that the broker knows",
    )


def _text(path: Path | None) -> str | None:
    return str(path) if path else None
