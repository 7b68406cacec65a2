"""What a machine is and has, read from trees of files as real machines have them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from edge_agent.detection import Machine, architecture, detect

if TYPE_CHECKING:
    from pathlib import Path

GIB = 1024**3
SERVER = Machine("x86_64", 64, "linux", 16, 64 * GIB)
BOARD = Machine("aarch64", 64, "linux", 4, 4 * GIB)


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_this_machine_is_described_at_once() -> None:
    began = time.perf_counter()
    facts = detect()
    assert time.perf_counter() - began < 1
    assert isinstance(facts["cpus"], int | float)
    assert isinstance(facts["memory_mb"], int)
    assert facts["cpus"] > 0
    assert facts["memory_mb"] > 100
    assert facts["os"] in {"linux", "darwin"}


def test_without_any_file_there_is_what_the_system_says(tmp_path: Path) -> None:
    assert detect(SERVER, tmp_path) == {"arch": "amd64", "os": "linux", "cpus": 16, "memory_mb": 65536}


def test_what_the_agent_may_not_use_is_not_offered(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/cpu.max": "250000 100000\n",
            "sys/fs/cgroup/memory.max": "2000000000\n",
        },
    )
    facts = detect(SERVER, tmp_path)
    assert (facts["cpus"], facts["memory_mb"]) == (2.5, 1907)


def test_a_limit_above_what_there_is_gives_no_more(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/cpu.max": "6400000 100000\n",
            "sys/fs/cgroup/memory.max": "640000000000\n",
        },
    )
    facts = detect(BOARD, tmp_path)
    assert (facts["cpus"], facts["memory_mb"]) == (4, 4096)


@pytest.mark.parametrize(
    ("machine", "bits", "expected"),
    [
        ("x86_64", 64, "amd64"),
        ("AMD64", 64, "amd64"),
        ("aarch64", 64, "arm64"),
        ("arm64", 64, "arm64"),
        ("armv6l", 32, "arm"),
        ("armv7l", 32, "arm"),
        ("armv8l", 32, "arm"),
        ("aarch64", 32, "arm"),
        ("x86_64", 32, "386"),
        ("i686", 32, "386"),
        ("riscv64", 64, "riscv64"),
        ("ppc64le", 64, "ppc64le"),
        ("s390x", 64, "s390x"),
        ("loongarch64", 64, "loong64"),
    ],
)
def test_architectures_are_called_as_docker_calls_them(machine: str, bits: int, expected: str) -> None:
    assert architecture(machine, bits) == expected


def test_gpus_of_nvidia_are_found_by_their_driver(tmp_path: Path) -> None:
    information = "Model: \t\t NVIDIA RTX A2000 12GB\nIRQ:   \t\t 143\nGPU UUID: \t GPU-5d1f\nBus Type: \t PCIe\n"
    write(
        tmp_path,
        {
            "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15\n",
            "proc/driver/nvidia/gpus/0000:01:00.0/information": information,
            "proc/driver/nvidia/gpus/0000:02:00.0/information": information,
        },
    )
    facts = detect(SERVER, tmp_path)
    assert {name: value for name, value in facts.items() if "gpu" in name} == {
        "gpu": True,
        "gpus": 2,
        "gpu_driver": "nvidia",
        "gpu_model": "NVIDIA RTX A2000 12GB",
    }


def test_a_driver_without_a_gpu_is_none(tmp_path: Path) -> None:
    write(tmp_path, {"proc/driver/nvidia/version": "NVRM version: …\n"})
    (tmp_path / "proc/driver/nvidia/gpus").mkdir()
    assert "gpu" not in detect(SERVER, tmp_path)


@pytest.mark.parametrize("device", ["dev/nvhost-gpu", "dev/nvgpu/igpu0/channel"])
def test_a_jetson_has_its_gpu_in_the_chip(tmp_path: Path, device: str) -> None:
    write(
        tmp_path,
        {
            "proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005\0nvidia,p3767-0005\0nvidia,tegra234\0",
            "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
            device: "",
        },
    )
    facts = detect(BOARD, tmp_path)
    assert (facts["gpu"], facts["gpu_driver"]) == (True, "tegra")
    assert facts["gpu_model"] == "NVIDIA Jetson Orin Nano Developer Kit"


def test_another_board_is_no_jetson(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "proc/device-tree/compatible": "raspberrypi,4-model-b\0brcm,bcm2711\0",
            "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.5\0",
            "dev/dri/renderD128": "",
        },
    )
    assert "gpu" not in detect(BOARD, tmp_path)


def test_a_gpu_of_amd_counts_where_it_computes(tmp_path: Path) -> None:
    nodes = "sys/class/kfd/kfd/topology/nodes"
    drawing = {"sys/class/drm/card0/device/mem_info_vram_total": "17163091968\n", "dev/dri/renderD128": ""}
    write(tmp_path, drawing)
    assert "gpu" not in detect(SERVER, tmp_path)
    write(
        tmp_path,
        {
            "dev/kfd": "",
            f"{nodes}/0/properties": "cpu_cores_count 16\nsimd_count 0\nmem_banks_count 1\n",
            f"{nodes}/1/properties": "cpu_cores_count 0\nsimd_count 120\nmem_banks_count 1\n",
        },
    )
    facts = detect(SERVER, tmp_path)
    assert (facts["gpu"], facts["gpus"], facts["gpu_driver"], facts["gpu_memory_mb"]) == (True, 1, "amdgpu", 16368)


def test_what_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "proc/self/cgroup").mkdir(parents=True)
    (tmp_path / "proc/driver/nvidia/gpus/0000:01:00.0/information").mkdir(parents=True)
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/compatible").write_bytes(b"\xff\xfe")
    facts = detect(SERVER, tmp_path)
    assert (facts["cpus"], facts["memory_mb"]) == (16, 65536)
