"""Rules about single paths: which holds, what it means in a sandbox, and what git and the workspace see of it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from conftest import Box, MakeBox

from lathe.agent.protection import GUARDED, VEILED
from lathe.protocol.errors import ConfigError
from lathe.sandbox import paths
from lathe.sandbox.paths import SEEING, WRITING, found, rules_of, strongest
from lathe.sandbox.policy import PathRules, SandboxPolicy
from lathe.sandbox.runner import Runner
from lathe.sandbox.sight import Sight


@pytest.mark.parametrize(
    ("stated", "path", "seen", "written"),
    [
        ({}, "a", "write", "write"),
        ({"hide": ["a"]}, "a/b", "hide", "write"),
        ({"hide": ["a"], "read": ["a/b"]}, "a/b/c", "read", "read"),
        ({"hide": ["a/**"], "read": ["a/b"]}, "a/b/c", "read", "read"),
        ({"hide": ["a"], "read": ["a"]}, "a", "hide", "read"),
        ({"hide": ["**/*.pem"], "read": ["a/x.pem"]}, "a/x.pem", "read", "read"),
        ({"hide": ["**/*.pem"], "read": ["a"]}, "a/x.pem", "hide", "read"),
        ({"hide": ["**/*.pem"]}, "x.pem", "hide", "write"),
        ({"read": ["a"], "write": ["a/b"]}, "a/b/c", "write", "write"),
        ({"read": ["a"], "write": ["a"]}, "a", "read", "read"),
        ({"protect": ["a"]}, "a/b", "write", "protect"),
        ({"hide": ["a"], "protect": ["a/b"]}, "a/b", "hide", "protect"),
        ({"hide": ["?.txt"]}, "aa.txt", "write", "write"),
        ({"hide": ["[a].txt"]}, "a.txt", "write", "write"),
        ({"hide": ["*/b"]}, "a/b/c", "hide", "write"),
        ({"hide": ["**/b/*.c"]}, "x/y/b/z.c", "hide", "write"),
    ],
)
def test_the_deepest_rule_holds_then_the_plainest_then_the_strictest(
    stated: Mapping[str, list[str]], path: str, seen: str, written: str
) -> None:
    rules = rules_of(
        SandboxPolicy(
            writable_roots=("/none/ws",),
            paths=PathRules(**{key: tuple(f"/none/ws/{one}" for one in some) for key, some in stated.items()}),
        )
    )
    whole = f"/none/ws/{path}"
    by_seeing, by_writing = strongest(rules, whole, SEEING), strongest(rules, whole, WRITING)
    assert by_seeing is not None
    assert by_writing is not None
    assert (by_seeing.kind, by_writing.kind) == (seen, written)


def test_patterns_that_mean_too_much_are_an_error_and_no_hole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        (tmp_path / f"{number}.pem").touch()
    rules = rules_of(SandboxPolicy(paths=PathRules(hide=(f"{tmp_path}/*.pem",))))
    assert len(found(rules)) == 20
    for limit in ("MOST_FOUND", "MOST_ENTRIES"):
        with monkeypatch.context() as patched:
            patched.setattr(paths, limit, 10)
            with pytest.raises(ConfigError, match=r"\[paths\]"):
                found(rules)


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=A", "-c", "user.email=a@example.org", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def project(workspace: Path) -> Path:
    files = {".env": "KEY=1", "app/.env.local": "KEY=2", ".env.example": "KEY=", "kept/.env": "PLAIN=1"}
    files |= {
        "node_modules/x/.env": "x",
        "AGENTS.md": "do",
        "app/AGENTS.md": "do this",
        ".agents/skills/s/SKILL.md": "s",
    }
    files |= {"secrets/one": "secret", "secrets/open/two": "two", "cert.pem": "secret", "vendor/lib/code": "code"}
    for name, text in files.items():
        (workspace / name).parent.mkdir(parents=True, exist_ok=True)
        (workspace / name).write_text(f"{text}\n")
    git(workspace, "init", "-q")
    git(workspace, "add", "kept/.env", "AGENTS.md", "app/AGENTS.md")
    git(workspace, "commit", "-qm", "first")
    return workspace


def rules(workspace: Path, **stated: list[str]) -> PathRules:
    return PathRules(
        veiled=VEILED,
        guarded=GUARDED,
        **{key: tuple(f"{workspace}/{one}" for one in some) for key, some in stated.items()},
    )


async def holds(box: Box, table: Mapping[str, bool]) -> None:
    for script, works in table.items():
        status, output = await box.run(script)
        assert (status == 0) == works, f"{script}: {output}"


async def test_what_the_rules_say_is_what_commands_can(make: MakeBox, project: Path, outside: Path) -> None:
    (outside / "cache" / "deep").mkdir(parents=True)
    stated = rules(
        project, hide=["secrets/**", "**/*.pem"], read=["secrets/open", "vendor/lib"], write=["vendor/lib/x"]
    )
    (project / "vendor/lib/x").mkdir()
    before = names(project)
    box = await make("bubblewrap", rules=PathRules(**{**_fields(stated), "write": (*stated.write, f"{outside}/*")}))
    await holds(
        box,
        {
            "cat .env": False,
            "cat app/.env.local": False,
            "cat .env.example": True,
            "cat kept/.env": True,
            "cat node_modules/x/.env": True,
            "cat secrets/one": False,
            "cat cert.pem": False,
            "cat secrets/open/two": True,
            "echo x > secrets/open/two": False,
            "cat vendor/lib/code && ! echo x > vendor/lib/code": True,
            "echo x > vendor/lib/x/new": True,
            "mv vendor other": False,
            f"echo x > {outside}/cache/deep/file": True,
            f"echo x > {outside}/file": False,
            "cat AGENTS.md && ! echo x > AGENTS.md": True,
            "rm app/AGENTS.md": False,
            "echo x > .agents/skills/s/SKILL.md": False,
            "git status --short | grep -v '^??'": False,
            "git add -A && git status --short | grep env.local": False,
        },
    )
    (project / "vendor/lib/x/new").unlink()
    assert names(project) == before
    assert (project / ".env").read_text() == "KEY=1\n"


def names(project: Path) -> list[str]:
    return sorted(str(path) for path in project.rglob("*") if ".git" not in path.parts)


def _fields(stated: PathRules) -> dict[str, tuple[str, ...]]:
    return {name: getattr(stated, name) for name in stated.__struct_fields__}


async def test_a_person_may_say_no_to_what_is_hidden_by_itself(make: MakeBox, project: Path) -> None:
    box = await make("bubblewrap", rules=rules(project, read=[".env"], write=["AGENTS.md"]))
    await holds(
        box, {"cat .env": True, "echo x > .env": False, "cat app/.env.local": False, "echo x > AGENTS.md": True}
    )


async def test_landlock_says_what_it_leaves_open_and_refuses_what_it_was_told_to_hide(
    make: MakeBox, project: Path, environment: Mapping[str, str]
) -> None:
    box = await make("landlock", rules=rules(project))
    assert (await box.run("cat .env"))[0] == 0
    assert ".env, app/.env.local can be read here" in " ".join(box.runner.news())
    policy = SandboxPolicy(writable_roots=(str(project),), paths=rules(project, hide=["secrets"]))
    runner = Runner(policy, cwd=project, env=environment, tiers=("landlock",))
    with pytest.raises(ConfigError, match="cannot hide"):
        await runner.start()
    await runner.aclose()


def test_tools_on_this_side_follow_the_same_rules(project: Path, own_home: Path) -> None:
    (own_home / ".ssh").mkdir()
    stated = rules(project, hide=["secrets"], read=["vendor", "secrets/open"])
    sight = Sight(SandboxPolicy(writable_roots=(str(project),), paths=stated))
    hidden = [".env", "app/.env.local", "new/.env", "secrets/one", str(own_home / ".ssh" / "id")]
    assert [path for path in hidden if not sight.hides(str(project / path))] == []
    seen = [".env.example", "kept/.env", "secrets/open/two", "app/x", str(own_home / ".bashrc")]
    assert [path for path in seen if sight.hides(str(project / path))] == []
    os.symlink(project / ".env", project / "link")
    assert sight.hides(str(project / "link"))
    refused = [
        ".git/config",
        ".lathe/x",
        "AGENTS.md",
        "new/CLAUDE.md",
        ".agents/skills/x/y",
        "vendor/x",
        ".env",
        "/etc/x",
    ]
    assert [path for path in refused if not sight.refusal(str(project / path))] == []
    assert [path for path in ("app/x", "AGENTS.md.txt", "kept/.env") if sight.refusal(str(project / path))] == []
