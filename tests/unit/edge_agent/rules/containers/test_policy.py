from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from broker.errors import InvalidInput
from broker.problems import explain
from edge_agent.rules.containers.params import ContainerParams, Mount
from edge_agent.rules.containers.policy import Place, Policy

if TYPE_CHECKING:
    from broker.messages import Scalar

SOCKET = "/run/docker.sock"


def policy(*, images: tuple[str, ...] = ("**",), mounts: tuple[str, ...] = (), devices: tuple[str, ...] = ()) -> Policy:
    return Policy.of(allow_images=images, allow_mounts=mounts, allow_devices=devices, socket=SOCKET)


def refusal(rules: Policy, capabilities: dict[str, Scalar] | None = None, **params: Any) -> str | None:  # noqa: ANN401
    return rules.refusal(ContainerParams.model_validate({"image": "busybox", **params}), capabilities or {})


def test_without_a_list_no_image_runs() -> None:
    assert refusal(policy(images=())) == "WORKER_ALLOW_IMAGES does not allow 'docker.io/library/busybox:latest'"
    assert refusal(policy()) is None


@pytest.mark.parametrize("name", ["privileged", "network_access"])
@pytest.mark.parametrize("value", [None, False, 1, "true"])
def test_only_true_is_a_capability(name: str, value: Scalar | None) -> None:
    asked = {"privileged": True} if name == "privileged" else {"network": True}
    capabilities = {} if value is None else {name: value}
    assert f"has not the capability '{name}'" in (refusal(policy(), capabilities, **asked) or "")
    assert refusal(policy(), {name: True}, **asked) is None
    assert refusal(policy(), {name: True}) is None


@pytest.mark.parametrize(
    ("places", "mount", "reason"),
    [
        (("/srv",), {"source": "/srv"}, None),
        (("/srv",), {"source": "/srv/a/b"}, None),
        (("/srv/",), {"source": "/srv/a"}, None),
        (("/srv",), {"source": "/srvx"}, "does not allow '/srvx'"),
        (("/srv/a",), {"source": "/srv"}, "does not allow '/srv'"),
        (("/srv:ro",), {"source": "/srv/a"}, "allows '/srv/a' with read_only only"),
        (("/srv:ro",), {"source": "/srv/a", "read_only": True}, None),
        (("/srv:ro", "/srv/rw"), {"source": "/srv/rw/x"}, None),
        (("/",), {"source": "/etc"}, None),
        (("/",), {"source": "/run"}, "holds the engine's socket"),
        (("/run",), {"source": "/run/docker.sock", "read_only": True}, "holds the engine's socket"),
        (("cache-*",), {"volume": "cache-a"}, None),
        (("cache-*",), {"volume": "other"}, "does not allow the volume 'other'"),
        (("models:ro",), {"volume": "models"}, "with read_only only"),
        (("/srv",), {"volume": "srv"}, "does not allow the volume 'srv'"),
        (("*",), {"source": "/srv"}, "does not allow '/srv'"),
    ],
)
def test_a_mount_is_allowed_by_what_is_listed(
    places: tuple[str, ...], mount: dict[str, Any], reason: str | None
) -> None:
    told = refusal(policy(mounts=places), mounts=[{**mount, "target": "/x"}])
    assert told is None if reason is None else reason in (told or "")


def test_where_a_path_leads_is_what_counts() -> None:
    mount = Mount(source="/srv/link", target="/x")
    rules = policy(mounts=("/srv",))
    assert rules.refusal_of_source(mount, "/srv/data") is None
    assert rules.refusal_of_source(mount, "/etc") == (
        "WORKER_ALLOW_MOUNTS does not allow '/srv/link', which leads to '/etc'"
    )
    assert "engine's socket" in (rules.refusal_of_source(mount, "/run") or "")
    assert rules.refusal_of_source(Mount(volume="v1", target="/x"), "") is None


def test_a_device_is_allowed_by_what_is_listed_and_a_star_is_within_one_folder() -> None:
    rules = policy(devices=("/dev/ttyUSB*", "/dev/snd/*"))
    assert refusal(rules, devices=["/dev/ttyUSB0", "/dev/snd/pcm"]) is None
    for device in ("/dev/sda", "/dev/snd/a/b", "/dev/ttyUSB/x"):
        assert refusal(rules, devices=[device]) == f"WORKER_ALLOW_DEVICES does not allow {device!r}"


@pytest.mark.parametrize("text", ["", "srv/data", "/srv/../etc", "/srv/*", ":ro", "a b", "/srv:rw", "../x"])
def test_a_place_that_says_nothing_certain_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="expected an absolute path without"):
        Place.parse(text)


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"image": "Busy Box"}, 'image is "Busy Box": expected an image such as'),
        ({"image": "b", "comand": ["x"]}, 'comand is ["x"]: there is no such field'),
        ({"image": "b", "memory_mb": 1}, "memory_mb is 1: expected a whole number from 6"),
        ({"image": "b", "cpus": "two"}, 'cpus is "two": expected a number'),
        ({"image": "b", "pull": "sometimes"}, "pull is \"sometimes\": expected 'missing', 'always' or 'never'"),
        (
            {"image": "b", "mounts": [{"target": "/x"}]},
            'mounts[0] is {"target": "/x"}: expected either a volume or a source',
        ),
        (
            {"image": "b", "mounts": [{"source": "/a/../b", "target": "/x"}]},
            'mounts[0].source is "/a/../b": expected an abs',
        ),
        (
            {"image": "b", "mounts": [{"source": "/a", "target": "x"}]},
            'mounts[0].target is "x": expected an absolute path',
        ),
        (
            {"image": "b", "mounts": [{"source": "/", "target": "/x"}]},
            'mounts[0].source is "/": expected an absolute path',
        ),
        ({"image": "b", "mounts": [{"volume": "../x", "target": "/x"}]}, 'mounts[0].volume is "../x": expected a text'),
        ({"image": "b", "devices": ["/dev/../etc"]}, 'devices[0] is "/dev/../etc": expected an absolute path'),
        ({"image": "b", "env": {"A=B": "c"}}, "expected a text that matches"),
        ({"image": "b", "command": []}, "command is []: expected at least 1 items"),
    ],
)
def test_wrong_params_are_told_by_field_and_value(params: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError) as caught:
        ContainerParams.model_validate(params)
    assert told in str(explain(caught.value)[0])


def test_two_mounts_have_two_targets() -> None:
    mounts = [{"volume": "aa", "target": "/x"}, {"volume": "bb", "target": "/x/"}]
    with pytest.raises(ValidationError, match="mounts with different targets"):
        ContainerParams.model_validate({"image": "b", "mounts": mounts})
