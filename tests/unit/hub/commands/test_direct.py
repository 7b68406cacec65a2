"""Who works on the database itself, as the audit trail has it."""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING

from hub.commands.direct import local_user

if TYPE_CHECKING:
    import pytest


def test_nobody_chooses_as_whom_they_stand_in_the_audit_trail(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(variable, "somebody-else")

    assert local_user() == f"local:{pwd.getpwuid(os.getuid()).pw_name}"
