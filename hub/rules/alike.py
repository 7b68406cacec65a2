"""Whether a name looks like another one, misspelt."""

from __future__ import annotations

import re

_SEPARATORS = re.compile(r"[._-]+")
_LONG_WORD = 4


def are_alike(one: str, other: str) -> bool:
    """Tell whether a name looks like a misspelt other.

    Separators aside they are the same, or one letter of a longer word differs. A number or a single letter tells sites
    apart on purpose.

    >>> are_alike("home-lab", "homelab"), are_alike("berlin", "berln"), are_alike("site-a", "site-b")
    (True, True, False)
    >>> are_alike("rack-11", "rack-12"), are_alike("berlin-1", "berlin-2"), are_alike("brelin-1", "berlin-1")
    (False, False, True)
    """
    words, others = _SEPARATORS.split(one), _SEPARATORS.split(other)
    if "".join(words) == "".join(others):
        return True
    if len(words) != len(others):
        return False
    differing = [pair for pair in zip(words, others, strict=True) if pair[0] != pair[1]]
    return len(differing) == 1 and all(map(_is_long_word, differing[0])) and _one_slip(*differing[0])


def _is_long_word(word: str) -> bool:
    return len(word) >= _LONG_WORD and word.isalpha()


def _one_slip(one: str, other: str) -> bool:
    """Tell whether a letter is missing, wrong, or in its neighbour's place."""
    short, long = sorted((one, other), key=len)
    start = next((n for n, (a, b) in enumerate(zip(short, long, strict=False)) if a != b), len(short))
    a, b = short[start:], long[start:]
    if len(a) == len(b):
        return a[1:] == b[1:] or (a[:2] == b[1::-1] and a[2:] == b[2:])
    return a == b[1:]
