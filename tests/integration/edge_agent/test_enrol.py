"""`edge-agent enrol`: trades a token by a real connection, once, with nobody but the hub that the token names."""

from __future__ import annotations

import asyncio
import io
import json
import stat
from typing import TYPE_CHECKING, Any

import pytest

from edge_agent import credentials, self_enrolment
from edge_agent.cli import main
from edge_agent.identity import Identity
from edge_agent.self_enrolment import SelfEnrolment
from edge_agent.settings import WorkerSettings
from edge_agent.store.sqlite import connect
from tests.support.certificates import Authority
from tests.support.enrolling_hub import EnrollingHub, enrolling

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edge_agent.credentials import Credentials

TOKEN = f"hfe_ab12cd34_{'s' * 43}"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "hub-ca")


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The offline directory of the settings."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    folder = tmp_path / "offline"
    monkeypatch.setenv("WORKER_OFFLINE_DIR", str(folder))
    return folder


@pytest.fixture
def hub(authority: Authority) -> Iterator[EnrollingHub]:
    """A hub by HTTPS, with an authority of its own."""
    served = EnrollingHub(f"{TOKEN}_{authority.fingerprint[:32]}", authority.pem)
    with enrolling(served, authority.sign("hub")):
        yield served


@pytest.fixture
def plain() -> Iterator[EnrollingHub]:
    """A hub by HTTP, with no authority."""
    with enrolling(EnrollingHub(TOKEN)) as served:
        yield served


class Command:
    """Runs `edge-agent enrol`."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        code = 0
        try:
            main(["enrol", *arguments])
        except SystemExit as end:
            code = int(end.code or 0)
        captured = self._capsys.readouterr()
        return code, captured.out, captured.err


@pytest.fixture
def enrol(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


def kept(offline: Path) -> Credentials:
    found = credentials.read(offline / "credentials.json")
    assert found is not None
    return found


def options(hub: EnrollingHub, **more: str) -> list[str]:
    given = {"hub": hub.url, "token": hub.token, **more}
    return [word for name, value in given.items() for word in (f"--{name}", value)]


# -- it works ----------------------------------------------------------------------------------------------------------


def test_a_token_is_traded_with_a_hub_whose_authority_nobody_knew(
    hub: EnrollingHub, offline: Path, enrol: Command, authority: Authority
) -> None:
    code, out, err = enrol(*options(hub, worker="w1"))
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == f"w1 at site-a is enrolled with {hub.url}"
    found = kept(offline)
    assert (found.worker, found.site, found.hub, found.ca) == ("w1", "site-a", hub.url, authority.pem)
    assert stat.S_IMODE((offline / "credentials.json").stat().st_mode) == 0o600
    assert sorted(one.name for one in offline.iterdir()) == ["credentials.json"], "nothing of the token is left"
    assert found.password not in out


def test_an_answer_that_got_lost_is_asked_for_again_and_is_the_same(
    hub: EnrollingHub, offline: Path, enrol: Command
) -> None:
    hub.loses = 1
    code, _, err = enrol(*options(hub, worker="w1"))
    assert code == 1
    assert "The token is still good: try again." in err
    assert not (offline / "credentials.json").exists()
    assert TOKEN not in (offline / "credentials.json.pending").read_text()
    assert enrol(*options(hub, worker="w1"))[0] == 0
    assert hub.asked[0] == hub.asked[1]
    assert kept(offline).password == f"of-{hub.asked[0]['nonce']}"


def test_a_worker_without_a_name_keeps_the_one_that_it_makes(
    plain: EnrollingHub, offline: Path, enrol: Command
) -> None:
    assert enrol(*options(plain))[0] == 0
    assert kept(offline).worker == (offline / "worker-id").read_text().strip()


@pytest.mark.parametrize("by", ["variable", "file", "option", "stdin"])
def test_the_token_may_come_in_several_ways(  # noqa: PLR0917  fixtures
    plain: EnrollingHub, offline: Path, enrol: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, by: str
) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    more = {"file": ["--token-file", str(file)], "option": ["--token", TOKEN], "stdin": ["--token-file", "-"]}
    if by == "variable":
        monkeypatch.setenv("WORKER_ENROL_TOKEN", TOKEN)
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{TOKEN}\n"))
    monkeypatch.setenv("WORKER_CONTROL_PLANE_URL", plain.url)
    assert enrol(*more.get(by, []))[0] == 0
    assert kept(offline).site == "site-a"


# -- who is not the hub ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("offline")
def test_a_hub_that_shows_another_authority_does_not_get_the_token(
    enrol: Command, tmp_path: Path, authority: Authority
) -> None:
    impostor = Authority(tmp_path, "impostor")
    served = EnrollingHub(f"{TOKEN}_{authority.fingerprint[:32]}", impostor.pem)
    with enrolling(served, impostor.sign("impostor-hub")):
        code, _, err = enrol(*options(served))
    assert code == 1
    assert "does not show the authority that the token names" in err
    assert "the token was not sent" in err
    assert served.asked == []


@pytest.mark.usefixtures("offline")
def test_who_shows_the_right_authority_and_has_not_its_key_does_not_get_the_token(
    enrol: Command, tmp_path: Path, authority: Authority
) -> None:
    impostor = Authority(tmp_path, "impostor")
    served = EnrollingHub(f"{TOKEN}_{authority.fingerprint[:32]}", authority.pem + impostor.pem)
    with enrolling(served, impostor.sign("impostor-hub")):
        code, _, err = enrol(*options(served))
    assert code == 1
    assert "is signed by nobody whom the authority of its enrolment vouches for" in err
    assert served.asked == []


@pytest.mark.usefixtures("offline")
def test_a_private_authority_is_trusted_only_if_the_token_or_a_file_names_it(
    enrol: Command, authority: Authority
) -> None:
    served = EnrollingHub(TOKEN, authority.pem)
    with enrolling(served, authority.sign("hub")):
        code, _, err = enrol(*options(served, worker="w1"))
        assert code == 1
        assert "is signed by nobody whom this system vouches for" in err
        assert "(set WORKER_TLS_CA to the authority that signed it)" in err
        assert served.asked == []
        assert enrol(*options(served, worker="w1", ca=str(authority.path)))[0] == 0


@pytest.mark.usefixtures("offline")
def test_a_certificate_that_has_ended_is_told(enrol: Command, authority: Authority) -> None:
    served = EnrollingHub(f"{TOKEN}_{authority.fingerprint[:32]}", authority.pem)
    with enrolling(served, authority.sign("old-hub", ended=True)):
        code, _, err = enrol(*options(served))
    assert (code, served.asked) == (1, [])
    assert f"the certificate of {served.url[8:]} has expired" in err


@pytest.mark.usefixtures("offline")
def test_a_token_in_clear_beyond_ones_own_network_is_warned_of(enrol: Command) -> None:
    code, _, err = enrol("--hub", "http://hub.invalid.example:9", "--token", TOKEN)
    assert code == 1
    assert err.startswith("warning: http://hub.invalid.example:9 is no https: whoever is on the way can read the token")


# -- who is refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [403, 409])
def test_what_the_hub_says_against_it_is_what_is_shown(
    plain: EnrollingHub, offline: Path, enrol: Command, status: int
) -> None:
    plain.status, plain.detail = status, "token ab12cd34 has expired; ask for another"
    code, out, err = enrol(*options(plain))
    assert (code, out) == (1, "")
    assert err == f"{plain.url} does not enrol this worker: token ab12cd34 has expired; ask for another\n"
    assert not (offline / "credentials.json").exists()


@pytest.mark.parametrize(("status", "said"), [(429, "try again"), (503, "try again"), (404, "no hub that enrols")])
@pytest.mark.usefixtures("offline")
def test_a_hub_that_cannot_now_and_one_that_never_will_are_told_apart(
    plain: EnrollingHub, enrol: Command, status: int, said: str
) -> None:
    plain.status = status
    code, _, err = enrol(*options(plain))
    assert code == 1
    assert said in err


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["--token", "hft_ab12cd34_" + "s" * 43], {}, "--token is a token that begins with hft_"),
        (["--token", TOKEN, "--hub", "hub.example"], {}, "--hub is 'hub.example': expected http:// or https://"),
        (["--token", TOKEN, "--site", "Site A"], {}, "--site is 'Site A': expected a text that matches"),
        (["--token", TOKEN, "--site", "b"], {"WORKER_SITE": "a"}, "--site is 'b': expected 'a', as WORKER_SITE says"),
        (["--token", TOKEN, "--worker", "b"], {"WORKER_ID": "a"}, "--worker is 'b': expected 'a', as WORKER_ID says"),
        (["--token-file", "/nowhere"], {}, '--token-file is "/nowhere": expected a text file that can be read'),
        ([], {}, "WORKER_ENROL_TOKEN is empty: expected a one-time token"),
    ],
)
@pytest.mark.usefixtures("offline")
def test_wrong_options_are_one_clear_line_each_and_nobody_is_asked(  # noqa: PLR0917  fixtures
    plain: EnrollingHub,
    enrol: Command,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    environment: dict[str, str],
    said: str,
) -> None:
    monkeypatch.setenv("WORKER_CONTROL_PLANE_URL", plain.url)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    code, _, err = enrol(*arguments)
    assert (code, plain.asked) == (2, [])
    assert err.startswith(said)
    assert err.count("\n") == 1


@pytest.mark.usefixtures("offline")
def test_a_place_that_cannot_be_written_is_found_out_before_the_token_is_used_up(
    plain: EnrollingHub, enrol: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKER_CREDENTIALS", "/nowhere/at/all/credentials.json")
    code, _, err = enrol(*options(plain))
    assert (code, plain.asked) == (2, [])
    assert err.startswith("WORKER_CREDENTIALS is '/nowhere/at/all/credentials.json': expected a place to write to")


# -- again -------------------------------------------------------------------------------------------------------------


def test_who_is_enrolled_is_not_enrolled_again_by_mistake(plain: EnrollingHub, offline: Path, enrol: Command) -> None:
    enrol(*options(plain, worker="w1"))
    code, _, err = enrol(*options(plain, worker="w1"))
    assert (code, len(plain.asked)) == (2, 1)
    assert err.startswith(
        f"{offline}/credentials.json is of w1 at site-a, enrolled with {plain.url}: expected none yet, "
    )
    assert "--replace" in err


def test_a_rotation_keeps_the_name_and_asks_the_same_hub(plain: EnrollingHub, offline: Path, enrol: Command) -> None:
    enrol(*options(plain, worker="w1"))
    plain.token, plain.used_by = TOKEN.replace("ab12", "ef56"), None
    assert enrol("--replace", "--token", plain.token)[0] == 0
    assert plain.asked[1]["worker"] == "w1"
    assert plain.asked[0]["nonce"] != plain.asked[1]["nonce"]
    assert kept(offline).password == f"of-{plain.asked[1]['nonce']}"


def test_damaged_credentials_can_be_replaced(plain: EnrollingHub, offline: Path, enrol: Command) -> None:
    offline.mkdir()
    (offline / "credentials.json").write_text("{")
    code, _, err = enrol(*options(plain))
    assert code == 2
    assert "edge-agent enrol writes" in err
    assert enrol("--replace", *options(plain))[0] == 0


def left_behind(offline: Path, owner: str) -> None:
    """Leave an event in a journal, as an agent does that was cut off."""
    offline.mkdir(exist_ok=True)
    (offline / "belongs-to").write_text(owner)
    connection = connect(offline / "journal.db")
    connection.execute("INSERT INTO journal (seq, class, at, body) VALUES (1, 3, 0, '{}')")
    connection.commit()
    connection.close()


@pytest.mark.parametrize("more", [{"site": "site-a"}, {}])
def test_what_waits_of_another_site_does_not_get_a_new_name(
    plain: EnrollingHub, offline: Path, enrol: Command, more: dict[str, str]
) -> None:
    left_behind(offline, "site-b w1")
    code, _, err = enrol(*options(plain, worker="w1", **more))
    assert not (offline / "credentials.json").exists()
    if more:  # it was said where to, so it is known before
        assert (code, plain.asked) == (2, [])
        assert "1 events and tasks of w1 at site-b wait in" in err
        assert "another WORKER_OFFLINE_DIR" in err
    else:
        assert code == 1
        assert "the token is for site-a, and not for site-b" in err
        assert plain.used_by is None


def test_what_waits_of_the_same_worker_is_in_nobodys_way(plain: EnrollingHub, offline: Path, enrol: Command) -> None:
    left_behind(offline, "site-a w1")
    assert enrol(*options(plain, worker="w1"))[0] == 0


# -- by itself ---------------------------------------------------------------------------------------------------------


def settings(offline: Path, hub: EnrollingHub, **more: Any) -> WorkerSettings:  # noqa: ANN401
    offline.mkdir(exist_ok=True)
    return WorkerSettings(**{"control_plane_url": hub.url, "offline_dir": offline, "enrol_token": TOKEN, **more})


async def test_an_agent_with_a_token_enrols_itself_however_often_the_answer_gets_lost(
    plain: EnrollingHub, offline: Path
) -> None:
    plain.loses = 2
    given = settings(offline, plain)
    identity = Identity(given)
    async with asyncio.timeout(30):
        await SelfEnrolment(given, "w1").run(identity)
    assert (identity.settings.site, identity.account().username) == ("site-a", "w1")
    assert len({json.dumps(one) for one in plain.asked}) == 1


async def test_a_token_that_is_refused_is_shown_once_and_another_in_its_file_is_noticed(
    plain: EnrollingHub, offline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(self_enrolment, "LOOK_SECONDS", 0.02)
    file = tmp_path / "token"
    file.write_text(TOKEN.replace("ab12", "wr0g"))
    given = settings(offline, plain, enrol_token=None, enrol_token_file=file)
    identity = Identity(given)
    enrolling_itself = asyncio.create_task(SelfEnrolment(given, "w1").run(identity))
    async with asyncio.timeout(30):
        while not plain.asked:  # noqa: ASYNC110  it is asked in another thread
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.2)  # ten looks
        assert len(plain.asked) == 1
        file.write_text(TOKEN)
        await enrolling_itself
    assert identity.settings.site == "site-a"


async def test_who_is_enrolled_by_somebody_else_waits_no_longer(
    plain: EnrollingHub, offline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(self_enrolment, "LOOK_SECONDS", 0.02)
    plain.status, plain.detail = 403, "no"
    given = settings(offline, plain)
    identity = Identity(given)
    waiting = asyncio.create_task(SelfEnrolment(given, "w1").run(identity))
    async with asyncio.timeout(30):
        while not plain.asked:  # noqa: ASYNC110  it is asked in another thread
            await asyncio.sleep(0.02)
        plain.status = 200
        await asyncio.to_thread(main, ["enrol", *options(plain, worker="w1")])
        await waiting
    assert identity.account().username == "w1"
