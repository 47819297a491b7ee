"""What of the person's environment reaches a command."""

from __future__ import annotations

import json
import os
import stat
import time
from pathlib import Path

import pytest

from lathe.sandbox import environment
from lathe.sandbox.environment import capture, command_environment, is_secret_name, is_secret_value


@pytest.mark.parametrize(
    "name",
    [
        "OPENAI_API_KEY",
        "anthropic_api_key",
        "GITHUB_TOKEN",
        "GH_PAT",
        "PAT",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "DB_PASSWORD",
        "PGPASSWORD",
        "MYSQL_PWD",
        "SMTP_PASS",
        "SSHPASS",
        "SSH_AUTH_SOCK",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "NPM_CONFIG__AUTH",
        "authToken",
        "apiKey",
        "MY-SECRET-THING",
        "SENTRY_DSN",
        "HF_TOKEN",
        "GITHUBTOKEN",
        "SIGNINGKEY",
        "KEY",
        "npm_config_//registry/:_authToken",
    ],
)
def test_names_of_secrets_are_known(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "PATH",
        "HOME",
        "KEYBOARD",
        "MONKEY",
        "HOTKEY",
        "KEYMAP",
        "PWD",
        "OLDPWD",
        "GIT_AUTHOR_NAME",
        "TOKENIZERS_PARALLELISM",
        "COMPASS",
        "XAUTHORITY",
        "PATTERN",
        "LS_COLORS",
        "COMPAT_LAYER",
        "SESSION_MANAGER",
        "PYTHONPATH",
        "LANG",
        "PASSENGER_HOME",
        "__",
    ],
)
def test_names_that_only_look_alike_are_let_through(name: str) -> None:
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    "value",
    [
        "sk-proj-abcdefghijklmnop",
        "ghp_" + "a" * 36,
        "github_pat_" + "1" * 22,
        "AKIA" + "ABCDEFGHIJKLMNOP",
        "xoxb-123456789012-abcdefghijk",
        "-----BEGIN OPENSSH PRIVATE KEY-----\nxyz",
        "postgres://user:password@db.example.org/name",
        "http://user:pa%40ss@proxy:3128",
        "before https://a:b@c after",
        '{"header": "Bearer abcdefghijklmnopqrst"}',
    ],
)
def test_values_that_look_like_keys_are_known(value: str) -> None:
    assert is_secret_value(value)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "/usr/bin:/bin",
        "https://example.org:8080/a:b@c",
        "https://user@example.org/",
        "task-force-of-many-people",
        "sk-short",
        "disk-abcdefghijklmnopqrst",
        "rs=0:di=01;34:ln=01;36",
        "file:///tmp/a@b:c",
        "ssh://git@example.org:22/x",
    ],
)
def test_ordinary_values_are_let_through(value: str) -> None:
    assert not is_secret_value(value)


def test_a_command_gets_the_environment_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAIN", "kept")
    monkeypatch.setenv("SOME_API_KEY", "gone")
    monkeypatch.setenv("INNOCENT", "ghp_" + "x" * 36)
    monkeypatch.setenv("MY_PROVIDER", "gone")
    monkeypatch.setenv("PAGER", "less")
    found = command_environment(["my_provider"])
    assert found["PLAIN"] == "kept"
    assert found["LATHE"] == "1"
    assert found["PAGER"] == found["GIT_PAGER"] == "cat"
    assert found["TERM"] == "dumb"
    assert found["PATH"] == ":".join(dict.fromkeys(os.environ["PATH"].split(":")))
    assert not {"SOME_API_KEY", "INNOCENT", "MY_PROVIDER", "PWD", "SHLVL", "_"} & set(found)


@pytest.fixture
def login(own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A login shell with a profile of its own, and a cache that is still empty; returns the cache."""
    (own_home / ".profile").write_text(
        "echo welcome\nexport FROM_PROFILE=yes BOTH=login PATH=/from/profile:$PATH\n"
        "export SOME_TOKEN=hush OWN=hush\n"
        "export NAMELESS=sk-abcdefghijklmnopqrstuvwxyz\n"
    )
    monkeypatch.setenv("SHELL", "/bin/bash")
    monkeypatch.setenv("BOTH", "current")
    return tmp_path / "cache"


def test_a_capture_holds_no_secret_and_is_its_owners_alone(login: Path) -> None:
    capture("/bin/bash", str(login), "OWN")
    file = login / "login-env.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "hush" not in file.read_text()
    assert "sk-" not in file.read_text()
    assert json.loads(file.read_text())["environment"]["FROM_PROFILE"] == "yes"


def test_the_login_shells_part_lies_under_the_current_environment(login: Path) -> None:
    capture("/bin/bash", str(login))
    found = command_environment(cache_dir=login)
    assert found["FROM_PROFILE"] == "yes"
    assert found["BOTH"] == "current"
    assert found["PATH"].startswith(os.environ["PATH"].split(":")[0])
    assert "/from/profile" in found["PATH"].split(":")
    assert "SOME_TOKEN" not in found


def test_the_first_call_does_not_wait_and_a_later_one_has_the_profile(login: Path) -> None:
    assert "FROM_PROFILE" not in command_environment(cache_dir=login)
    limit = time.monotonic() + 30
    while not (login / "login-env.json").exists():
        assert time.monotonic() < limit
        time.sleep(0.01)
    assert command_environment(cache_dir=login)["FROM_PROFILE"] == "yes"


def test_a_changed_profile_is_captured_again(login: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    capture("/bin/bash", str(login))
    asked: list[str] = []
    monkeypatch.setattr(environment, "_capture_later", lambda shell, *_more: asked.append(shell))
    command_environment(cache_dir=login)
    assert asked == []
    (own_home / ".profile").write_text("export FROM_PROFILE=changed\n")
    assert command_environment(cache_dir=login)["FROM_PROFILE"] == "yes"
    assert asked == ["/bin/bash"]


def test_a_shell_that_fails_is_not_asked_again_and_again(login: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    capture("/bin/false", str(login))
    monkeypatch.setenv("SHELL", "/bin/false")
    monkeypatch.setattr(environment, "_capture_later", lambda *_: pytest.fail("asked again"))
    assert command_environment(cache_dir=login)["BOTH"] == "current"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"key": 1}', '{"key": [], "environment": [1]}'])
def test_a_broken_cache_is_no_cache(login: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    login.mkdir()
    (login / "login-env.json").write_text(text)
    monkeypatch.setattr(environment, "_capture_later", lambda *_: None)
    assert command_environment(cache_dir=login)["BOTH"] == "current"
