"""`lathe config`: what it shows, and what it never shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lathe.cli.config import main
from lathe.protocol.errors import ConfigError


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def configure(home: Path, text: str) -> Path:
    path = home / ".config" / "lathe" / "config.toml"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return path


@pytest.mark.usefixtures("project")
def test_every_setting_is_shown_with_its_origin(
    own_home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = configure(own_home, 'model = "gpt-5"\n[[rules.forbid]]\nprefix = ["nc"]\n')
    monkeypatch.setenv("LATHE_APPROVE", "untrusted")
    assert main(["show", "--origin", "-c", "retries=1"]) == 0
    lines = dict(line.split("  # ", 1) for line in capsys.readouterr().out.splitlines())
    shown = {line.rstrip(): origin for line, origin in lines.items()}
    assert shown['model = "gpt-5"'] == str(path)
    assert shown['approve = "untrusted"'] == "LATHE_APPROVE"
    assert shown["retries = 1"] == "--config retries"
    assert shown['sandbox = "workspace-write"'] == "built-in"
    assert shown["# provider is not set"] == "built-in"
    assert shown['rules.forbid = [{prefix = ["nc"]}]'] == str(path)


@pytest.mark.usefixtures("project")
def test_secrets_are_never_shown(own_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configure(
        own_home,
        """
        [providers.x]
        base_url = "https://bob:sekrit1@host/v1"
        key_env = "MY_KEY"
        headers = { Authorization = "Bearer sekrit2", Other = "env:NAME" }
        query = { api_key = "sekrit3", api-version = "2024" }
        [mcp.y]
        command = "tool"
        args = ["--token", "ghp_sekrit4aaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]
        env = { PLAIN = "sekrit5" }
        """,
    )
    for argv in (["show"], ["show", "--origin"], ["show", "--json"]):
        assert main(argv) == 0
        out = capsys.readouterr().out
        assert "sekrit" not in out
        for kept in ("MY_KEY", "env:NAME", "2024", "***@host"):
            assert kept in out


@pytest.mark.usefixtures("project")
def test_json_has_values_origins_and_warnings(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / ".lathe").mkdir()
    (project / ".lathe" / "config.toml").write_text("model = 'x'")
    assert main(["show", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["settings"]["retries"] == {"value": 5, "origin": "built-in"}
    assert "not trusted" in told["warnings"][0]


def test_the_files_that_are_looked_for_are_listed(
    project: Path, own_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = configure(own_home, "retries = 1")
    assert main(["path"]) == 0
    out = capsys.readouterr().out
    assert f"{path}" in out
    assert any(line.split() == [str(path), "read"] for line in out.splitlines())
    assert str(project / ".lathe" / "config.toml") in out
    assert main(["path", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["folders"]["home"] == str(own_home / "lathe")


@pytest.mark.usefixtures("project")
def test_a_wrong_file_is_one_sentence(own_home: Path) -> None:
    configure(own_home, "retries = 'x'")
    with pytest.raises(ConfigError, match="line 1: retries should be a whole number"):
        main(["show"])
