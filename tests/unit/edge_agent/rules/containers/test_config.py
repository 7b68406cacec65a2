from __future__ import annotations

from typing import Any

from edge_agent.rules.containers.config import config
from edge_agent.rules.containers.images import Image
from edge_agent.rules.containers.params import ContainerParams


def body(**params: Any) -> dict[str, Any]:  # noqa: ANN401  any param
    read = ContainerParams.model_validate({"image": "busybox", **params})
    return config(read, Image.parse(read.image), {"/srv": "/mnt/srv"}, {"holdfast.worker": "w1"})


def test_a_container_is_bounded_where_the_task_says_nothing() -> None:
    made = body()
    host = made["HostConfig"]
    assert made["Image"] == "docker.io/library/busybox:latest"
    assert made["Labels"] == {"holdfast.worker": "w1"}
    assert "Cmd" not in made
    assert host["NetworkMode"] == "none"
    assert host["PidsLimit"] == 512
    assert host["Init"] is True
    assert host["Privileged"] is False
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert "NET_RAW" in host["CapDrop"]
    assert host["RestartPolicy"] == {"Name": "no"}
    assert host["LogConfig"]["Config"] == {"max-size": "10m", "max-file": "3", "compress": "false"}
    assert "Memory" not in host


def test_what_a_task_asks_for_is_what_the_engine_is_told() -> None:
    made = body(
        command=["a"],
        entrypoint=["b"],
        env={"N": "1=2"},
        workdir="/w",
        user="7",
        network=True,
        memory_mb=64,
        cpus=0.5,
        pids=9,
        read_only=True,
        devices=["/dev/x"],
        mounts=[{"source": "/srv", "target": "/x"}, {"volume": "cache", "target": "/y", "read_only": True}],
    )
    host = made["HostConfig"]
    assert (made["Cmd"], made["Entrypoint"], made["Env"]) == (["a"], ["b"], ["N=1=2"])
    assert (made["WorkingDir"], made["User"]) == ("/w", "7")
    assert host["NetworkMode"] == "bridge"
    assert (host["Memory"], host["MemorySwap"]) == (64 * 1024 * 1024, 64 * 1024 * 1024)
    assert (host["NanoCpus"], host["PidsLimit"], host["ReadonlyRootfs"]) == (500_000_000, 9, True)
    assert host["Devices"] == [{"PathOnHost": "/dev/x", "PathInContainer": "/dev/x", "CgroupPermissions": "rw"}]
    bind, volume = host["Mounts"]
    assert (bind["Type"], bind["Source"], bind["Target"], bind["ReadOnly"]) == ("bind", "/mnt/srv", "/x", False)
    assert (volume["Type"], volume["Source"], volume["Target"], volume["ReadOnly"]) == ("volume", "cache", "/y", True)


def test_a_privileged_one_is_not_bounded_against_its_word() -> None:
    host = body(privileged=True)["HostConfig"]
    assert host["Privileged"] is True
    assert "CapDrop" not in host
    assert "SecurityOpt" not in host
