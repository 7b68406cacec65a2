"""Which commands may run here: `WORKER_ALLOW_COMMANDS`, word by word (DESIGN §4).

>>> pattern = Pattern.parse("systemctl restart *")
>>> pattern.allows(["systemctl", "restart", "dnsmasq"])
True
>>> pattern.allows(["systemctl", "restart", "dnsmasq", "sshd"])
False

A pattern is written as one line in a shell's words. `*` stands for any text within one argument, a last `**` for any
arguments that follow, none included. Nothing else is special, and no shell ever sees a command.
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


@dataclass(frozen=True, slots=True)
class Pattern:
    """One pattern: an expression for each argument, and whether more may follow."""

    words: tuple[re.Pattern[str], ...]
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
        return cls(tuple(_expression(word) for word in fixed), open_ended)

    def allows(self, argv: Sequence[str]) -> bool:
        """Tell whether `argv` is of this pattern."""
        if len(argv) < len(self.words) or (len(argv) > len(self.words) and not self.open_ended):
            return False
        return all(word.fullmatch(argument) for word, argument in zip(self.words, argv, strict=False))


def parse(patterns: Iterable[str]) -> tuple[Pattern, ...]:
    """Read the patterns of a setting."""
    return tuple(Pattern.parse(text) for text in patterns)


def is_allowed(argv: Sequence[str], patterns: Iterable[Pattern]) -> bool:
    """Tell whether a command may run: some pattern must allow it; without patterns nothing may."""
    return any(pattern.allows(argv) for pattern in patterns)


def _expression(word: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in word.split("*")), re.DOTALL)
