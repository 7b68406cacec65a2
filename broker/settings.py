"""How both programs read their settings: the environment before a TOML file before the defaults.

A wrong value is one line that names the variable, the value and what was expected; a program shows its settings at
start, one to a line, with secrets masked.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import sys
import tomllib
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeVar, get_args

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError as SourceError,
)

from broker.errors import SettingsError
from broker.problems import NO_SUCH_FIELD, Problem, explain, shown

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from structlog.typing import FilteringBoundLogger

_ACCOUNT = re.compile(r"://[^/@\s\"']*@")

HIDDEN = "********"
"""What is shown of a secret."""

EXIT_SETTINGS = 2
"""The exit code of a program with a wrong setting."""


class ProgramSettings(BaseSettings):
    """The base of both programs' settings; a subclass gives `env_prefix`.

    Attributes:
        others: Variables with that prefix that are no settings of the program: its commands read them.

    """

    others: ClassVar[frozenset[str]] = frozenset()

    model_config = SettingsConfigDict(frozen=True, extra="forbid", validate_default=False, allow_inf_nan=False)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put the environment before the file, whose values come in as arguments."""
        return env_settings, init_settings


SettingsType = TypeVar("SettingsType", bound=ProgramSettings)


def load(kind: type[SettingsType], config: Path | None = None) -> SettingsType:
    """Return the settings of a program from the environment and the TOML file `config`.

    Raises:
        SettingsError: If a value is wrong, the file cannot be read, or it has a key that is no setting.

    """
    from_file = _read(config) if config else {}
    try:
        return kind(**from_file)
    except ValidationError as error:
        raise SettingsError(_named(explain(error), kind, from_file)) from None
    except SourceError as error:
        raise SettingsError([_unparsable(error, kind)]) from None


def load_or_exit(kind: type[SettingsType], config: Path | None = None) -> SettingsType:
    """Return the settings, or print one line for each wrong one and end the program with exit code 2."""
    try:
        return load(kind, config)
    except SettingsError as error:
        fail(*(str(problem) for problem in error.problems))


def fail(*lines: str) -> NoReturn:
    """Print `lines` to standard error and end the program with exit code 2."""
    for line in lines:
        print(line, file=sys.stderr)  # noqa: T201
    sys.exit(EXIT_SETTINGS)


def describe(settings: ProgramSettings) -> dict[str, str]:
    """Return every setting as text, secrets masked, in the order of the documentation."""
    return {name: _text(getattr(settings, name)) for name in type(settings).model_fields}


def log_settings(settings: ProgramSettings, logger: FilteringBoundLogger, **derived: str) -> None:
    """Log every setting on a line of its own, and what is `derived` from them; warn of variables that are none."""
    for name, value in {**describe(settings), **derived}.items():
        logger.info("setting", **{name: value})
    for warning in unknown_variables(type(settings)):
        logger.warning("unknown_setting", reason=warning)


def unknown_variables(kind: type[ProgramSettings], environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return a warning for each variable with the program's prefix that is no setting: most likely a misspelt one."""
    prefix = kind.model_config.get("env_prefix", "")
    known = {f"{prefix}{name.upper()}" for name in kind.model_fields} | kind.others
    warnings = []
    for name in sorted(environment):
        if name.startswith(prefix) and name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            warnings.append(f"{name} is no setting" + (f"; did you mean {close[0]}?" if close else ""))
    return warnings


def _read(config: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(config.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([Problem("--config", shown(str(config)), f"a file that can be read ({error})")]) from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError([Problem("--config", shown(str(config)), f"valid TOML ({error})")]) from None


def _named(problems: list[Problem], kind: type[ProgramSettings], from_file: Mapping[str, Any]) -> list[Problem]:
    """Name each problem by its variable, or by its key where the file gave it."""
    prefix = kind.model_config.get("env_prefix", "")
    named = []
    for problem in problems:
        name, dot, rest = problem.field.partition(".")
        setting = name.partition("[")[0]
        variable = f"{prefix}{name.upper()}"
        in_file = setting in from_file and f"{prefix}{setting.upper()}" not in os.environ
        is_none = problem.expected == NO_SUCH_FIELD and not rest
        close = difflib.get_close_matches(name, kind.model_fields, n=1) if is_none else []
        expected = f"a setting; did you mean {close[0]}?" if close else problem.expected
        where = (name if in_file else variable) + dot + rest
        hidden = any(_is_secret(kind, one) for one in (setting, *close))
        value = HIDDEN if hidden else _masked(_as_typed(problem.value))
        named.append(Problem(where, value, expected))
    return named


def _is_secret(kind: type[ProgramSettings], setting: str) -> bool:
    """Tell whether a setting is never shown, not even where it is wrong: a password of digits alone, or misspelt."""
    field = kind.model_fields.get(setting)
    return field is not None and SecretStr in (field.annotation, *get_args(field.annotation))


def _as_typed(value: str) -> str:
    """Quote an environment variable's value as a shell would."""
    try:
        plain = json.loads(value)
    except ValueError:
        return value
    return f"'{plain}'" if isinstance(plain, str) else value


def _unparsable(error: SourceError, kind: type[ProgramSettings]) -> Problem:
    """Name the variable that holds no JSON; pydantic-settings names only the field."""
    for name in kind.model_fields:
        if f'"{name}"' in str(error):
            variable = f"{kind.model_config.get('env_prefix', '')}{name.upper()}"
            return Problem(variable, f"'{os.environ.get(variable, '')}'", f"valid JSON ({error.__cause__})")
    return Problem("settings", "", str(error))


def _text(value: object) -> str:
    if isinstance(value, SecretStr):
        return HIDDEN if value.get_secret_value() else ""
    if isinstance(value, dict | list | tuple):
        return _masked(json.dumps(value, ensure_ascii=False, default=_as_given))
    return "" if value is None else _masked(str(value))


def _as_given(model: BaseModel) -> object:
    return model.model_dump(mode="json", exclude_defaults=True)


def _masked(text: str) -> str:
    """Hide the account in a URL: `mqtt://…@broker.example`."""
    return _ACCOUNT.sub("://…@", text)
