"""`lathe doctor`: what it finds on this machine, and that each problem comes with its fix."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from lathe.cli import doctor
from lathe.config.settings import Settings
from lathe.models.provider import Provider
from lathe.models.scripted import ScriptedServer


def by_name(checks: list[doctor.Check]) -> dict[str, doctor.Check]:
    return {check.name: check for check in checks}


def test_this_machine_can_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code = doctor.main(["--json"])
    told = json.loads(capsys.readouterr().out)
    names = {check["name"] for check in told["checks"]}
    assert names >= {"python", "configuration", "git", "bash", "rg", "tree-sitter", "mcp", "home", "keys", "model"}
    assert any(name.startswith("sandbox ") for name in names)
    failed = [check["name"] for check in told["checks"] if check["state"] == "fail"]
    assert told["possible"] == (code == 0) == (not failed)
    assert all(name.startswith("sandbox") for name in failed)


def test_the_text_is_aligned_and_a_problem_stands_above_its_fix(capsys: pytest.CaptureFixture[str]) -> None:
    checks = [doctor.Check("a", "ok", "fine"), doctor.Check("longer", "fail", "broken", "Mend it.")]
    doctor._print(checks, False)
    assert capsys.readouterr().out.splitlines() == [
        "ok    a       fine",
        "FAIL  longer  broken",
        "              -> Mend it.",
        "",
        "No run is possible until what says FAIL is mended.",
    ]


def test_a_wrong_configuration_is_found_with_its_fix(tmp_path: Path, own_home: Path) -> None:
    path = own_home / ".config" / "lathe" / "config.toml"
    path.parent.mkdir(parents=True)
    path.write_text("modle = 'x'\n")
    loaded, [check] = doctor.check_configuration(tmp_path, os.environ)
    assert loaded is None
    assert (check.state, check.fix) == ("fail", "Did you mean model?")
    assert "line 1" in check.detail


def test_a_rule_that_fails_its_example_is_found(tmp_path: Path, own_home: Path) -> None:
    path = own_home / ".config" / "lathe" / "config.toml"
    path.parent.mkdir(parents=True)
    path.write_text("[[rules.ask]]\nprefix = ['a']\nmatch = ['b']\n")
    _, [check] = doctor.check_configuration(tmp_path, os.environ)
    assert check.state == "fail"


def test_a_home_that_is_no_folder_is_found_and_a_good_one_is_left_empty(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    wrong = doctor.check_home(tmp_path / "file" / "home")
    assert (wrong.state, "LATHE_HOME" in wrong.fix) == ("fail", True)
    good = doctor.check_home(tmp_path / "home")
    assert good.state in ("ok", "warn")
    assert "GiB free" in good.detail
    assert list((tmp_path / "home").iterdir()) == []


def test_a_missing_program_is_a_warning(tmp_path: Path) -> None:
    check = doctor.check_program("rg", {"PATH": str(tmp_path)}, "Install it.")
    assert check == doctor.Check("rg", "warn", "not found", "Install it.")


def test_keys_are_named_and_never_shown() -> None:
    environ = {"OPENAI_API_KEY": "sekrit", "MY_KEY": "sekrit"}
    settings = Settings(providers={"x": {"base_url": "http://h/v1", "key_env": "MY_KEY"}}, provider="x", model="m")
    checks = by_name(doctor.check_models(settings, environ))
    assert checks["keys"].detail == "OPENAI_API_KEY, MY_KEY"
    assert checks["model"].detail == "m from x (http://h/v1)"
    assert "sekrit" not in str(checks)


def test_without_any_key_the_embedded_engine_does_the_work() -> None:
    assert "mend" in by_name(doctor.check_models(Settings(), {}))["model"].detail


def test_a_key_that_is_missing_makes_a_run_impossible() -> None:
    check = by_name(doctor.check_models(Settings(model="gpt-5", provider="openai"), {}))["model"]
    assert check.state == "fail"
    assert "OPENAI_API_KEY" in check.fix


async def test_an_endpoint_that_answers_is_told_from_one_that_does_not() -> None:
    async with ScriptedServer() as server:
        base_url = server.base_url
        check = await doctor.check_endpoint(Provider(name="x", base_url=base_url), {})
        assert (check.state, "answers (200)" in check.detail) == ("ok", True)
    check = await doctor.check_endpoint(Provider(name="x", base_url=base_url), {})
    assert (check.state, "refuses connections" in check.detail) == ("warn", True)
    check = await doctor.check_endpoint(Provider(name="x", base_url="nonsense"), {})
    assert check.state == "warn"
