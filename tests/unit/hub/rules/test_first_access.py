"""What a broker's dynamic security plugin begins with."""

from __future__ import annotations

import base64

from broker.topics import Topics
from hub.rules.first_access import first_configuration, hash_of

SALT = base64.b64decode("Td4yaYdiIy4HrtVo")


def test_a_password_is_hashed_as_the_plugin_does() -> None:
    # By `mosquitto_ctrl dynsec init` of mosquitto 2.0.11.
    made = "0wXbtr0QHvhkiPVJRGlwZe+3iADANOT4t1eanEh8buBtaRi41GgHDLU0niS2hootTVitkBFPX8JhuorY/oFKOg=="
    assert hash_of("pw123", SALT) == made


def test_the_hub_may_do_all_of_its_root_and_the_plugin_and_nobody_else_anything() -> None:
    first = first_configuration("holdfast-hub", "pw123", SALT, Topics("plant"))
    assert not any(first["defaultACLAccess"].values())
    assert [client["username"] for client in first["clients"]] == ["holdfast-hub"]
    (role,) = first["roles"]
    assert first["clients"][0]["roles"] == [{"rolename": role["rolename"]}]
    assert {acl["topic"] for acl in role["acls"]} == {"plant/v1/#", "$CONTROL/dynamic-security/#"}
    assert all(acl["allow"] for acl in role["acls"])


def test_no_password_stands_in_it() -> None:
    assert "pw123" not in str(first_configuration("holdfast-hub", "pw123", SALT, Topics()))
