"""What a hub carries: on a small machine every module that it does not need is memory that tasks could have."""

from __future__ import annotations

import subprocess
import sys

NEEDED_BY_COMMANDS_ALONE = ("cryptography", "httpx", "hub.doctor", "hub.store.backup")


def test_a_hub_has_not_loaded_what_only_commands_or_a_ca_need() -> None:
    program = f"import sys, hub.cli, hub.app; print(*(n for n in {NEEDED_BY_COMMANDS_ALONE} if n in sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], check=True, timeout=60, capture_output=True, text=True)
    assert done.stdout.split() == []
