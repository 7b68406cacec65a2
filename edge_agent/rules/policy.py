"""Which commands may run here: `WORKER_ALLOW_COMMANDS`, word by word (DESIGN §4).

>>> pattern = Pattern.parse("systemctl restart *")
>>> pattern.allows(["systemctl", "restart", "dnsmasq"])
True
>>> pattern.allows(["systemctl", "restart", "dnsmasq", "sshd"])
False

A pattern is written as one line in a shell's words. `*` stands for any text within one argument, a last `**` for any
arguments that follow, none included. Nothing else is special, and no shell ever sees a command. What a `*` or `**`
stands for leads to no parent directory, so that `/opt/scripts/*` is of that directory:

>>> Pattern.parse("/opt/scripts/*").allows(["/opt/scripts/../../bin/sh"])
False
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from broker.errors import InvalidInput
from broker.problems import Problem, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

REST = "**"

_UPWARDS = re.compile(r"\.\./|(^|[/=:,]|^-\w)\.\.$")
"""`../` anywhere, and `..` at the end where a path may begin: not `main..dev`, and not `wait...`."""


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a pattern."""

    expression: re.Pattern[str]
    is_fixed: bool

    @classmethod
    def of(cls, text: str) -> Word:
        """Read a word."""
        first, *others = map(re.escape, text.split("*"))
        if not others:
            return cls(re.compile(first), is_fixed=True)
        # Each part where it comes first, once and for all: else a long argument could be tried in a million ways.
        middle = "".join(f"(?>.*?{part})" for part in others[:-1])
        return cls(re.compile(f"{first}{middle}.*{others[-1]}", re.DOTALL), is_fixed=False)

    def allows(self, argument: str) -> bool:
        """Tell whether an argument is of this word."""
        return self.expression.fullmatch(argument) is not None and (self.is_fixed or not leads_upwards(argument))


@dataclass(frozen=True, slots=True)
class Pattern:
    """One pattern: an expression for each argument, and whether more may follow."""

    words: tuple[Word, ...]
    open_ended: bool

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Read a pattern. Raises `InvalidInput` for one that is empty, or has `**` before its end."""
        try:
            words = shlex.split(text)
        except ValueError as error:
            raise InvalidInput([Problem("pattern", shown(text), f"closed quotes ({error})")]) from None
        open_ended = words[-1:] == [REST]
        fixed = words[:-1] if open_ended else words
        if not fixed:
            expected = "a command and its arguments, such as 'systemctl restart *'"
            raise InvalidInput([Problem("pattern", shown(text), expected)])
        if any(REST in word for word in fixed):
            raise InvalidInput([Problem("pattern", shown(text), "'**' as the last word only")])
        return cls(tuple(Word.of(word) for word in fixed), open_ended)

    def allows(self, argv: Sequence[str]) -> bool:
        """Tell whether `argv` is of this pattern."""
        if len(argv) < len(self.words) or (len(argv) > len(self.words) and not self.open_ended):
            return False
        fixed, rest = argv[: len(self.words)], argv[len(self.words) :]
        return all(word.allows(one) for word, one in zip(self.words, fixed, strict=True)) and not any(
            leads_upwards(one) for one in rest
        )


def parse(patterns: Iterable[str]) -> tuple[Pattern, ...]:
    """Read the patterns of a setting."""
    return tuple(Pattern.parse(text) for text in patterns)


def is_allowed(argv: Sequence[str], patterns: Iterable[Pattern]) -> bool:
    """Tell whether a command may run: some pattern must allow it; without patterns nothing may."""
    return any(pattern.allows(argv) for pattern in patterns)


def leads_upwards(argument: str) -> bool:
    """Tell whether an argument names a parent directory, as far as can be seen."""
    return _UPWARDS.search(argument) is not None
