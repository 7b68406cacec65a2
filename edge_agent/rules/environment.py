"""What a command finds in its environment.

That is nothing of the agent's that could be a secret, and nothing by which a sender could turn an allowed command into
another one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

PASSED = frozenset({"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR"})
PASSED_PREFIX = "LC_"
"""What a command gets of the agent's environment. Names are listed, since nobody can list all that holds secrets."""

USUAL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

EXPECTED_NAME = "a name that does not choose what is run: not PATH, LD_PRELOAD and the like"

_CHOOSES_WHAT_IS_RUN = re.compile(
    r"""
    PATH | HOME | SHELL | USER | LOGNAME | TMPDIR | XDG_.*        # where it finds programs and settings
    | (LD|DYLD|GCONV|GLIBC|MALLOC)_.*                             # the loader and the C library
    | ENV | BASH.* | IFS | CDPATH | SHELLOPTS | PS4 | PROMPT_COMMAND | ZDOTDIR
    | (PYTHON|PERL|RUBY|GEM_|LUA_|JAVA_|JDK_|_JAVA_).* | CLASSPATH | NODE_(OPTIONS|PATH)
    | GIT_(SSH|EXEC_PATH|CONFIG|DIR|WORK_TREE|EXTERNAL_DIFF|TEMPLATE_DIR|PROXY_COMMAND).*
    | (.*_)?(EDITOR|VISUAL|PAGER|BROWSER|ASKPASS|RSH) | LESS(OPEN|CLOSE) | (GNU)?MAKEFLAGS | MAKEFILES
    | TAR_OPTIONS | RSYNC_(CONNECT_PROG|SHELL) | OPENSSL_(CONF|MODULES|ENGINES) | CURL_HOME | WGETRC | AWK(LIB)?PATH
    | (VIM|EX)INIT | KUBECONFIG | DOCKER_(HOST|CONFIG|CONTEXT|CERT_PATH)
    | (WORKER|HOLDFAST)_.*                                        # the agent's own
    """,
    re.VERBOSE,
)


def may_be_given(name: str) -> bool:
    """Tell whether a task may set a variable.

    A sender who chooses where programs and libraries are looked for has any command run, whichever is allowed. No list
    of such names is complete: what else a program reads, he must know who allows it.
    """
    return not _CHOOSES_WHAT_IS_RUN.fullmatch(name)


def environment(
    own: Mapping[str, str], given: Mapping[str, str], *, passed: Collection[str] = (), person: Mapping[str, str] | None
) -> dict[str, str]:
    """Return a command's environment.

    Args:
        own: The agent's.
        given: What the task sets.
        passed: What else of the agent's it gets.
        person: HOME, USER and so on of the user whom it runs as, where that is not the agent's.

    """
    kept = {name: value for name, value in own.items() if _is_passed(name, passed)}
    kept["PATH"] = ":".join(_absolute(kept.get("PATH", ""))) or USUAL_PATH
    return kept | dict(person or {}) | dict(given)


def _is_passed(name: str, passed: Collection[str]) -> bool:
    return name in PASSED or name.startswith(PASSED_PREFIX) or name in passed


def _absolute(path: str) -> Iterable[str]:
    """Leave out what depends on the working directory, which the sender may choose."""
    return (folder for folder in path.split(":") if folder.startswith("/"))


def refused(given: Iterable[str]) -> Iterator[str]:
    """Yield the names that a task may not set."""
    return (name for name in given if not may_be_given(name))
