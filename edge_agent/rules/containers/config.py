"""What the engine is told to create: the body of `POST /containers/create` (Docker Engine API 1.41)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edge_agent.rules.containers.images import Image
    from edge_agent.rules.containers.params import ContainerParams, Mount

MIB = 1024 * 1024
NANO = 1_000_000_000

DROPPED_CAPABILITIES = ("AUDIT_WRITE", "MKNOD", "NET_RAW")
"""Of the engine's default set, what Podman leaves out of its own: no task needs forged packets or device nodes."""

LOG = {"Type": "local", "Config": {"max-size": "10m", "max-file": "3", "compress": "false"}}
"""What the engine itself keeps of the output: enough to take up an attempt whose agent was away, and bounded."""


def config(
    params: ContainerParams, image: Image, sources: Mapping[str, str], labels: Mapping[str, str]
) -> dict[str, Any]:
    """Return the body.

    Args:
        params: What the task asks for, which is allowed.
        image: Its image in full.
        sources: Where each path of the host leads, by the path as it is written.
        labels: What finds the container again.

    """
    optional = {
        "Cmd": params.command,
        "Entrypoint": params.entrypoint,
        "WorkingDir": params.workdir,
        "User": params.user,
    }
    return {
        "Image": str(image),
        "Env": [f"{name}={value}" for name, value in params.env.items()],
        "Labels": dict(labels),
        "AttachStdout": True,
        "AttachStderr": True,
        "Tty": False,
        "HostConfig": _host(params, sources),
        **{name: value for name, value in optional.items() if value is not None},
    }


def _host(params: ContainerParams, sources: Mapping[str, str]) -> dict[str, Any]:
    limits: dict[str, Any] = {"PidsLimit": params.pids}
    if params.memory_mb is not None:
        # As much with swap as without: no swap.
        limits |= {"Memory": params.memory_mb * MIB, "MemorySwap": params.memory_mb * MIB}
    if params.cpus is not None:
        limits["NanoCpus"] = int(params.cpus * NANO)
    hardened = {"CapDrop": list(DROPPED_CAPABILITIES), "SecurityOpt": ["no-new-privileges"]}
    return {
        "NetworkMode": "bridge" if params.network else "none",
        "Init": params.init,
        "ReadonlyRootfs": params.read_only,
        "Privileged": params.privileged,
        "Mounts": [_mount(one, sources) for one in params.mounts],
        "Devices": [_device(path) for path in params.devices],
        "LogConfig": LOG,
        "RestartPolicy": {"Name": "no"},
        **limits,
        **({} if params.privileged else hardened),
    }


def _mount(mount: Mount, sources: Mapping[str, str]) -> dict[str, Any]:
    if mount.source is None:
        origin: dict[str, Any] = {"Type": "volume", "Source": mount.volume}
    else:
        origin = {"Type": "bind", "Source": sources[mount.source], "BindOptions": {"Propagation": "rprivate"}}
    return {**origin, "Target": mount.target, "ReadOnly": mount.read_only}


def _device(path: str) -> dict[str, str]:
    return {"PathOnHost": path, "PathInContainer": path, "CgroupPermissions": "rw"}
