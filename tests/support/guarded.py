"""A broker with accounts, access rules and TLS by plain files: what any careful operator may have, and no plugin."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING

from broker.local import HOST, PrivateBroker, find_client, free_port
from tests.support.certificates import Authority

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


class GuardedBroker(PrivateBroker):
    """Lets in who has an account, and to what its rules name.

    Args:
        folder: Where its files go.
        rules: By account, lines of an ACL file: `readwrite edge/v1/#`. The password is the account's name and `-pw`.

    """

    def __init__(self, folder: Path, rules: Mapping[str, Sequence[str]]) -> None:
        self._files = folder
        self.passwords = folder / "passwords"
        self.authority, self.stranger = Authority(folder), Authority(folder, "stranger")
        pairs = {
            "good": self.authority.sign("good"),
            "elsewhere": self.authority.sign("elsewhere", ["elsewhere.example"]),
            "ended": self.authority.sign("ended", ended=True),
        }
        ports = {name: free_port() for name in pairs}
        self.tls = {name: f"mqtts://localhost:{port}" for name, port in ports.items()}
        (folder / "acl").write_text(
            "".join(f"user {name}\n" + "".join(f"topic {line}\n" for line in lines) for name, lines in rules.items())
        )
        self.set_passwords({name: password_of(name) for name in rules})
        extra = f"allow_anonymous false\npassword_file {self.passwords}\nacl_file {folder}/acl\n"
        for name, pair in pairs.items():
            extra += f"listener {ports[name]} {HOST}\ncertfile {pair.certificate}\nkeyfile {pair.key}\n"
        super().__init__(extra=extra)

    def set_passwords(self, passwords: Mapping[str, str]) -> None:
        """Write the file of passwords anew."""
        self.passwords.write_text("".join(f"{name}:{password}\n" for name, password in passwords.items()))
        subprocess.run([find_client("mosquitto_passwd"), "-U", str(self.passwords)], check=True, timeout=30)
        self.passwords.chmod(0o600)

    def change_passwords(self, passwords: Mapping[str, str]) -> None:
        """Let other passwords hold from now on: who is connected with an old one is thrown out."""
        self.set_passwords(passwords)
        os.kill(self.pid, signal.SIGHUP)


def password_of(name: str) -> str:
    """Return an account's first password: a worker's two have the same one."""
    return f"{name.partition('/')[0]}-pw"
