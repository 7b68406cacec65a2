"""What the machine is and has: facts that tasks can require, as if the settings had declared them.

`arch` (`amd64`, `arm64`: Docker's words), `os`, `cpus` and `memory_mb` (as far as the agent may use them), and where
there is a GPU that computes: `gpu`, `gpu_driver`, `gpu_model`, `gpus`, `gpu_memory_mb`. Only files are read, which is
quick; what is not there, or cannot be read, is left out.

A GPU counts if its driver lets programs compute: NVIDIA's, NVIDIA's for Jetson boards, or AMD's with its compute
device. Graphics that only draw do not count; where they are what tasks want, WORKER_CAPABILITIES says so.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from edge_agent.rules import control_groups

if TYPE_CHECKING:
    from collections.abc import Iterable

    from broker.messages import Scalar

MIB = 1024 * 1024
"""What the memory of a container is counted in as well."""

WORD_64 = 64

ARCHITECTURES = {
    "x86_64": "amd64",
    "amd64": "amd64",
    "aarch64": "arm64",
    "arm64": "arm64",
    "i386": "386",
    "i486": "386",
    "i586": "386",
    "i686": "386",
    "loongarch64": "loong64",
}
"""A system's words for an architecture, in Docker's. Those that are the same in both are not listed."""

NARROW = {"amd64": "386", "arm64": "arm"}
"""What a 64-bit system is to the programs of a 32-bit one on it, as on many a Raspberry Pi."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What the system says of itself.

    Attributes:
        machine: The architecture, in the system's words.
        bits: How wide this program's words are.
        system: `linux` or `darwin`.
        cpus: How many processors this program may run on.
        memory_bytes: How much memory there is.

    """

    machine: str
    bits: int
    system: str
    cpus: int
    memory_bytes: int

    @classmethod
    def here(cls) -> Machine:
        """Return the machine that this runs on."""
        may_use = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()  # a Mac has none
        return cls(
            machine=platform.machine(),
            bits=WORD_64 if sys.maxsize > 2**32 else 32,
            system=sys.platform,
            cpus=len(may_use) or os.cpu_count() or 1,
            memory_bytes=psutil.virtual_memory().total,
        )


def detect(machine: Machine | None = None, root: Path = Path("/")) -> dict[str, Scalar]:
    """Return what can be known of `machine`, whose files are under `root`."""
    machine = machine or Machine.here()
    limits = control_groups.limits(_read(root, "proc/self/cgroup") or "", lambda path: _read(root, path))
    cpus = min(float(machine.cpus), limits.cpus or float(machine.cpus))
    memory = min(machine.memory_bytes, limits.memory_bytes or machine.memory_bytes)
    return {
        "arch": architecture(machine.machine, machine.bits),
        "os": machine.system,
        "cpus": int(cpus) if cpus.is_integer() else round(cpus, 2),
        "memory_mb": memory // MIB,
        **(_nvidia(root) or _jetson(root) or _amd(root)),
    }


def architecture(machine: str, bits: int) -> str:
    """Return an architecture in Docker's words.

    >>> architecture("x86_64", 64), architecture("armv7l", 32), architecture("aarch64", 32)
    ('amd64', 'arm', 'arm')
    """
    name = ARCHITECTURES.get(machine.lower(), machine.lower())
    if name.startswith("armv"):
        return "arm"
    return name if bits == WORD_64 else NARROW.get(name, name)


def _nvidia(root: Path) -> dict[str, Scalar]:
    """Look for what NVIDIA's driver says of each of its GPUs."""
    told = [_read(root, path) or "" for path in _glob(root, "proc/driver/nvidia/gpus/*/information")]
    models = [found[1] for text in told if (found := re.search(r"^Model:\s*(.+?)\s*$", text, re.MULTILINE))]
    return _gpus("nvidia", len(told), models)


def _jetson(root: Path) -> dict[str, Scalar]:
    """Look for the GPU of a Tegra, which is part of its chip, and shares the memory."""
    compatible = (_read(root, "proc/device-tree/compatible") or "").split("\0")
    has_driver = any(_glob(root, pattern) for pattern in ("dev/nvhost-gpu", "dev/nvgpu/igpu*"))
    if not has_driver or not any(name.startswith("nvidia,tegra") for name in compatible):
        return {}
    model = (_read(root, "proc/device-tree/model") or "").strip("\0 \n")
    return _gpus("tegra", 1, [model] if model else [])


def _amd(root: Path) -> dict[str, Scalar]:
    """Look for the nodes of AMD's compute driver; one that has processors and no SIMD units is a CPU."""
    if not _glob(root, "dev/kfd"):
        return {}
    nodes = _glob(root, "sys/class/kfd/kfd/topology/nodes/*/properties")
    count = sum(1 for path in nodes if re.search(r"^simd_count [1-9]", _read(root, path) or "", re.MULTILINE))
    sizes = [_read(root, path) or "" for path in _glob(root, "sys/class/drm/card*/device/mem_info_vram_total")]
    memory = max((int(size) for size in sizes if size.strip().isdecimal()), default=0) // MIB
    return _gpus("amdgpu", count, []) | ({"gpu_memory_mb": memory} if count and memory else {})


def _gpus(driver: str, count: int, models: Iterable[str]) -> dict[str, Scalar]:
    if not count:
        return {}
    facts: dict[str, Scalar] = {"gpu": True, "gpus": count, "gpu_driver": driver}
    first = next(iter(models), None)
    return facts | ({"gpu_model": first} if first else {})


def _glob(root: Path, pattern: str) -> list[str]:
    try:
        return sorted(str(path.relative_to(root)) for path in root.glob(pattern))
    except OSError:  # a directory that may not be read
        return []


def _read(root: Path, path: str) -> str | None:
    """Return a file's text; None if there is none, or it may not be read."""
    try:
        return (root / path).read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError):
        return None
