"""What some tests need beyond Python and mosquitto: found, or the test is skipped, or fails where nothing may skip."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import pytest

LIBFAKETIME = ("usr/lib/*/faketime/libfaketimeMT.so.1", "usr/lib*/faketime/libfaketimeMT.so.1")


def find_faketime() -> str:
    """Return the library that gives a process a clock of its own."""
    found = [str(file) for pattern in LIBFAKETIME for file in Path("/").glob(pattern)]
    return found[0] if found else missing("libfaketime (Debian and Ubuntu: apt-get install libfaketime)")


def missing(what: str) -> NoReturn:
    """End a test that cannot be run here: HOLDFAST_REQUIRE_ALL, which CI sets, forbids the skip."""
    if os.environ.get("HOLDFAST_REQUIRE_ALL"):
        pytest.fail(f"this needs {what}, and HOLDFAST_REQUIRE_ALL is set")
    pytest.skip(f"this needs {what}")
