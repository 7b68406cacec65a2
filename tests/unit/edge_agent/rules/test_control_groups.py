"""How much of a machine a process may use, by what the kernel's files say."""

from __future__ import annotations

import pytest

from edge_agent.rules.control_groups import Limits, limits

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        pytest.param("", {}, Limits(), id="no control groups"),
        pytest.param("0::/\n", {}, Limits(), id="version 2, no limit at the top of a host"),
        pytest.param(
            "0::/\n",
            {"cpu.max": "150000 100000\n", "memory.max": f"{512 * MIB}\n"},
            Limits(1.5, 512 * MIB),
            id="container",
        ),
        pytest.param(
            "0::/system.slice/agent.service\n",
            {
                "system.slice/cpu.max": "200000 100000",
                "system.slice/agent.service/cpu.max": "max 100000",
                "system.slice/memory.max": "1000",
                "system.slice/agent.service/memory.max": "max",
            },
            Limits(2.0, 1000),
            id="the group above is tighter",
        ),
        pytest.param(
            "9:name=systemd:/\n5:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n0::/\n",
            {
                "memory/memory.limit_in_bytes": f"{256 * MIB}\n",
                "cpu/cpu.shares": "1024",
                "cpu/cpu.cfs_quota_us": "50000",
                "cpu/cpu.cfs_period_us": "100000",
            },
            Limits(0.5, 256 * MIB),
            id="version 1 in a container, whose path is the host's",
        ),
        pytest.param(
            "3:cpu,cpuacct:/a\n",
            {"cpu,cpuacct/a/cpu.cfs_quota_us": "300000", "cpu,cpuacct/a/cpu.cfs_period_us": "100000"},
            Limits(3.0),
            id="version 1, mounted under all its names",
        ),
        pytest.param(
            "5:memory:/\n3:cpu:/\n",
            {
                "memory/memory.limit_in_bytes": "9223372036854771712",
                "cpu/cpu.cfs_quota_us": "-1",
                "cpu/cpu.cfs_period_us": "100000",
            },
            Limits(),
            id="version 1, no limit",
        ),
        pytest.param("nonsense\n0::/\n", {"cpu.max": "", "memory.max": "much"}, Limits(), id="no file as it should be"),
    ],
)
def test_the_tightest_limit_counts(membership: str, files: dict[str, str], expected: Limits) -> None:
    assert limits(membership, lambda path: files.get(path.removeprefix("sys/fs/cgroup/"))) == expected
