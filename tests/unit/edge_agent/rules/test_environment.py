"""What a command finds in its environment."""

from __future__ import annotations

import pytest

from edge_agent.rules.environment import USUAL_PATH, environment, may_be_given

OWN = {
    "PATH": "/usr/bin:bin::/bin",
    "HOME": "/root",
    "LC_ALL": "C",
    "WORKER_PASSWORD": "secret",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "HTTPS_PROXY": "http://user:secret@proxy",
}


def test_it_gets_what_is_listed_and_nothing_else() -> None:
    assert environment(OWN, {}, person=None) == {"PATH": "/usr/bin:/bin", "HOME": "/root", "LC_ALL": "C"}
    assert "HTTPS_PROXY" in environment(OWN, {}, passed={"HTTPS_PROXY"}, person=None)


def test_what_the_task_gives_goes_before_whom_it_runs_as_and_that_before_the_agents() -> None:
    person = {"HOME": "/home/x", "USER": "x"}
    assert environment(OWN, {"LC_ALL": "de"}, person=person) == {"PATH": "/usr/bin:/bin", "LC_ALL": "de", **person}


def test_without_a_path_there_is_the_usual_one() -> None:
    assert environment({"PATH": "bin:."}, {}, person=None)["PATH"] == USUAL_PATH


CHOOSING = """
    PATH HOME LD_PRELOAD LD_LIBRARY_PATH DYLD_INSERT_LIBRARIES BASH_ENV ENV IFS PYTHONSTARTUP PERL5OPT RUBYOPT
    NODE_OPTIONS JAVA_TOOL_OPTIONS _JAVA_OPTIONS GIT_SSH_COMMAND GIT_PAGER EDITOR SSH_ASKPASS SYSTEMD_PAGER LESSOPEN
    XDG_CONFIG_HOME WORKER_ID HOLDFAST_RUN TAR_OPTIONS RSYNC_RSH OPENSSL_CONF CURL_HOME VIMINIT MAKEFILES KUBECONFIG
    DOCKER_HOST
"""


@pytest.mark.parametrize("name", CHOOSING.split())
def test_what_chooses_the_program_is_not_the_senders(name: str) -> None:
    assert not may_be_given(name)


@pytest.mark.parametrize(
    "name", ["LANG", "TARGET", "NODE_ENV", "GIT_COMMIT", "LDAP_HOST", "MY_PATH", "PATHS", "TZ", "DOCKER_TAG"]
)
def test_any_other_is(name: str) -> None:
    assert may_be_given(name)
