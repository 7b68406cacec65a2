"""A Debian 12 of the tests' own: the base of our images, and the root of a systemd, from which registries are reached.

    tree = base_tree()                      # a folder; it is shared, so copy it, or mount something over it
    image = import_base(engine.api())       # the name of an image of it on an engine: `FROM` it, or run it

The tree has Python with venv, systemd, dbus, mosquitto with its clients, curl and procps, and what this machine's own
programs read before they reach a package registry (its certificates, pip's and apt's configuration). So pip and
apt-get work in a container with the host's network (`docker build --network host`), and in a chroot that has the
host's /etc/resolv.conf.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.needs import missing

if TYPE_CHECKING:
    import docker

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 600
BASE_IMAGE = "holdfast-test-base:1"


@functools.cache
def base_tree() -> Path:
    """Return the folder of the tree; the first run on a machine makes it, in a minute or two."""
    if os.geteuid() != 0:
        missing("root, to make a Debian tree")
    if shutil.which("debootstrap", path=f"{os.environ.get('PATH', '')}:/usr/sbin") is None:
        missing("debootstrap (Debian and Ubuntu: apt-get install debootstrap)")
    made = subprocess.run(
        [ROOT / "scripts/test-base.sh"], capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )
    assert made.returncode == 0, made.stderr
    return Path(made.stdout.strip())


def import_base(api: docker.APIClient, name: str = BASE_IMAGE) -> str:
    """Make the image `name` of the tree on an engine, and return the name."""
    command = ["tar", "--create", "--directory", str(base_tree()), "--one-file-system", "."]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as tar:
        repository, _, tag = name.partition(":")
        answer = api.import_image_from_stream(tar.stdout, repository=repository, tag=tag)
    assert tar.returncode == 0
    assert "sha256:" in answer, answer
    return name
