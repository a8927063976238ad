"""Whom docker's config.json and its helpers know."""

import base64
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from toolchain.errors import BadUsage, NotAvailable
from toolchain.shipping.registry import credentials
from toolchain.shipping.registry.credentials import NOBODY, Credentials

AUTH = base64.b64encode(b"me:pass:word").decode()
ME = Credentials("me", "pass:word")
HELPER = """#!/bin/sh
read -r server
case $server in
{known}) printf '{answer}' ;;
*) echo 'credentials not found in native keychain'; exit 1 ;;
esac
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "bin").mkdir()
    (tmp_path / ".docker").mkdir()
    return tmp_path


def keep(home: Path, **kept: Any) -> None:
    (home / ".docker" / "config.json").write_text(json.dumps(kept))


def helper(home: Path, name: str, *, known: str, answer: str) -> None:
    path = home / "bin" / f"docker-credential-{name}"
    path.write_text(HELPER.format(known=known, answer=answer))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_nobody_is_known_where_nothing_is_kept(home: Path) -> None:
    assert credentials.of("host:5000") == NOBODY
    keep(home, auths={"other": {"auth": AUTH}})
    assert credentials.of("host:5000") == NOBODY
    assert NOBODY.basic is None


@pytest.mark.parametrize("key", ["host:5000", "https://host:5000", "https://host:5000/v2/"])
def test_a_password_is_kept_by_the_registry(home: Path, key: str) -> None:
    keep(home, auths={key: {"auth": AUTH}})
    assert credentials.of("host:5000") == ME
    assert ME.basic == f"Basic {AUTH}"


def test_docker_hub_has_a_key_of_its_own(home: Path) -> None:
    keep(home, auths={"https://index.docker.io/v1/": {"auth": AUTH, "identitytoken": "long"}})
    assert credentials.of("docker.io") == Credentials("me", "pass:word", "long")


def test_the_configuration_may_lie_elsewhere(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "else").mkdir()
    (home / "else" / "config.json").write_text(json.dumps({"auths": {"host": {"username": "me", "password": "x"}}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(home / "else"))
    assert credentials.of("host") == Credentials("me", "x")


def test_a_helper_is_asked_first(home: Path) -> None:
    helper(home, "one", known="host", answer='{"ServerURL": "host", "Username": "me", "Secret": "pass:word"}')
    helper(home, "all", known="third", answer='{"Username": "<token>", "Secret": "long"}')
    keep(home, credHelpers={"host": "one"}, credsStore="all", auths={"other": {"auth": AUTH}})
    assert credentials.of("host") == ME
    assert credentials.of("third") == Credentials(token="long")
    assert credentials.of("other") == ME  # which the store does not know
    assert credentials.of("nowhere") == NOBODY


@pytest.mark.parametrize("content", ["", "[]", "{", '{"auths": {"host": {"auth": "é"}}}', '{"a": NaN}'])
def test_a_damaged_configuration_is_named(home: Path, content: str) -> None:
    (home / ".docker" / "config.json").write_text(content)
    with pytest.raises(BadUsage, match="config"):
        credentials.of("host")


@pytest.mark.parametrize("kept", [{"auths": []}, {"auths": {"host": 5}}, {"credHelpers": 5}])
def test_what_is_of_another_kind_is_nothing(home: Path, kept: dict[str, Any]) -> None:
    keep(home, **kept)
    assert credentials.of("host") == NOBODY


def test_helpers_that_fail_are_named(home: Path) -> None:
    keep(home, credsStore="absent")
    with pytest.raises(NotAvailable, match="no docker-credential-absent"):
        credentials.of("host")
    keep(home, credsStore="../../bin/sh")
    with pytest.raises(BadUsage, match="no name of a credential helper"):
        credentials.of("host")
    keep(home, credsStore="bad")
    helper(home, "bad", known="host", answer="[]")
    with pytest.raises(NotAvailable, match="says nothing"):
        credentials.of("host")
    (home / "bin" / "docker-credential-bad").write_text("#!/bin/sh\necho locked\nexit 3\n")
    with pytest.raises(NotAvailable, match="code 3"):
        credentials.of("host")


def test_no_secret_is_shown() -> None:
    assert "pass" not in repr(Credentials("me", "password", "passage"))
