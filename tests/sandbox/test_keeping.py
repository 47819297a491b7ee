"""What commands may not change: it is put back, also by the next Lathe, and what the person does there stays."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Box, MakeBox

from lathe.sandbox.keeping import recover
from lathe.sandbox.policy import PathRules, SandboxPolicy
from lathe.sandbox.runner import Runner

RULES = PathRules(guarded=("AGENTS.md", "CLAUDE.md"))
TIERS = ["bubblewrap", "landlock"]


@pytest.fixture
def repository(workspace: Path) -> Path:
    subprocess.run(["git", "init", "-q", str(workspace)], check=True)
    (workspace / "AGENTS.md").write_text("mine\n")
    (workspace / ".lathe").mkdir()
    (workspace / ".lathe" / "config.toml").write_text("mine\n")
    (workspace / ".git" / "hooks" / "own").write_text("#!/bin/sh\n")
    (workspace / ".git" / "hooks" / "own").chmod(0o755)
    return workspace


def kept(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return all that must stay as it is."""
    places = [folder / ".git/hooks", folder / ".git/config", folder / ".lathe", folder / "AGENTS.md"]
    places += [folder / ".git/commondir", folder / ".git/config.worktree", folder / ".git/info/attributes"]
    paths = [path for place in places for path in (place, *place.rglob("*")) if os.path.lexists(path)]
    return {str(path): (path.lstat().st_mode, path.read_bytes() if path.is_file() else b"") for path in paths}


@pytest.mark.parametrize("name", TIERS)
@pytest.mark.parametrize(
    "script",
    [
        "echo x > .git/hooks/pre-commit",
        "echo x >> .git/hooks/own; chmod -x .git/hooks/own; echo y > .lathe/config.toml",
        "rm -rf .git/hooks; mkdir .git/hooks; echo x > .git/hooks/own",
        "rm -rf .git/hooks; ln -s /etc .git/hooks",
        "rm -rf .git/hooks; echo x > .git/hooks",
        "mv .git old; cp -r old .git; echo x > .git/hooks/pre-commit",
        "mv .git old; mkdir evil; ln -s evil .git",
        "mv .git old; ln -s old .git; echo x > .git/config",
        "git config core.fsmonitor x; git config core.worktree /; echo x > .git/config.worktree",
        "echo ../evil > .git/commondir; mkdir -p .git/info; echo x > .git/info/attributes",
        "rm -rf .lathe; mkdir -p .lathe/skills/x; echo x > .lathe/skills/x/SKILL.md",
        "rm AGENTS.md; echo x > AGENTS.md",
        "mv AGENTS.md x; mkdir -p AGENTS.md/a",
        "mkfifo .git/hooks/pre-commit; ln -sf /etc/passwd .git/hooks/own",
        "touch -d 2001-01-01 .git/config; echo '# x' >> .git/config; touch -d 2001-01-01 .git/config",
    ],
)
async def test_what_a_command_may_not_change_is_as_it_was_when_the_command_has_ended(
    name: str, script: str, make: MakeBox, repository: Path
) -> None:
    before = kept(repository)
    box = await make(name, rules=RULES)
    await box.run(f"({script}) 2> /dev/null")
    assert kept(repository) == before
    assert (await box.run("git status"))[0] == 0
    if name == "landlock":
        assert "was put back" in " ".join(box.runner.news())


async def until(true: Callable[[], bool]) -> None:
    while not true():
        await asyncio.sleep(0.01)


async def test_what_goes_on_after_a_command_is_looked_at_too(make: MakeBox, repository: Path) -> None:
    box = await make("landlock", rules=RULES)
    hook = repository / ".git" / "hooks" / "pre-commit"
    late = "exec > /dev/null; while [ ! -e go ]; do sleep 0.01; done; echo x > .git/hooks/pre-commit; touch done"
    assert (await box.run(f"({late}) & sleep 0"))[0] == 0
    (repository / "go").touch()
    await asyncio.wait_for(until(lambda: (repository / "done").exists()), 20)
    await asyncio.wait_for(until(lambda: not hook.exists()), 20)
    assert "pre-commit may not be changed" in " ".join(box.runner.news())


@pytest.mark.parametrize("name", TIERS)
async def test_what_the_person_changes_while_no_command_runs_stays(name: str, make: MakeBox, repository: Path) -> None:
    box = await make(name, rules=RULES)
    await box.run("true")
    await asyncio.wait_for(until(lambda: box.runner.quiet), 20)
    subprocess.run(["git", "-C", str(repository), "config", "user.name", "Ada"], check=True)
    (repository / "AGENTS.md").write_text("mine, and new\n")
    (repository / ".git" / "hooks" / "own").unlink()
    before = kept(repository)
    await box.runner.end_all()
    box.runner.settle()
    assert kept(repository) == before
    # the mounts on what was replaced are gone with it: only the look after the command is left
    await box.run("git config user.name Eve; echo x > AGENTS.md; echo x > .git/hooks/own")
    assert kept(repository) == before
    await asyncio.wait_for(until(lambda: box.runner.quiet), 20)
    (repository / "CLAUDE.md").write_text("mine\n")
    (repository / ".lathe" / "big").write_bytes(bytes(9 << 20))
    box.runner.news()
    await box.run("true")
    assert not [line for line in box.runner.news() if "too much" not in line]
    await asyncio.wait_for(until(lambda: box.runner.quiet), 20)
    (repository / ".git" / "hooks" / "later").write_text("mine\n")
    await box.runner.aclose()
    assert (repository / ".lathe" / "big").exists()
    assert (repository / ".git" / "hooks" / "later").exists()


async def test_what_somebody_changes_who_may_stays_though_a_command_runs(make: MakeBox, repository: Path) -> None:
    box = await make("landlock", rules=RULES)
    process = await box.spawn("while :; do echo x > .git/hooks/one; echo x > .lathe/x; touch ready; done")
    await asyncio.wait_for(until((repository / "ready").exists), 20)
    (repository / "AGENTS.md").write_text("by a patch\n")
    (repository / ".lathe" / "skills").mkdir()
    (repository / ".lathe" / "skills" / "new").write_text("by a patch\n")
    box.runner.accept([f"{repository}/AGENTS.md", f"{repository}/.lathe/skills/new"])
    await process.kill()
    await box.run("true")
    assert (repository / "AGENTS.md").read_text() == "by a patch\n"
    assert (repository / ".lathe" / "skills" / "new").read_text() == "by a patch\n"
    assert not (repository / ".git" / "hooks" / "one").exists()
    assert not (repository / ".lathe" / "x").exists()


@pytest.mark.parametrize("name", TIERS)
async def test_new_instructions_are_told_of_and_left(name: str, make: MakeBox, repository: Path) -> None:
    box = await make(name, rules=RULES)
    await box.run("echo x > CLAUDE.md")
    (line,) = box.runner.news()
    assert "CLAUDE.md is new here" in line
    assert (repository / "CLAUDE.md").read_text() == "x\n"
    await box.run("mkdir -p sub && echo x > sub/AGENTS.md && git mv -k sub other; rm CLAUDE.md")
    assert box.runner.news() == []


async def test_a_folder_that_goes_takes_its_instructions_along(make: MakeBox, repository: Path) -> None:
    (repository / "sub").mkdir()
    (repository / "sub" / "AGENTS.md").write_text("nested\n")
    box = await make("landlock", rules=RULES)
    await box.run("rm -r sub")
    assert not (repository / "sub").exists()


async def test_what_is_too_large_to_be_kept_is_refused_by_landlock(
    workspace: Path, environment: dict[str, str], make: MakeBox
) -> None:
    from lathe.protocol.errors import ConfigError

    (workspace / "big").mkdir()
    (workspace / "big" / "file").write_bytes(bytes(9 << 20))
    rules = PathRules(protect=(f"{workspace}/big",))
    policy = SandboxPolicy(writable_roots=(str(workspace),), paths=rules)
    runner = Runner(policy, cwd=workspace, env=environment, tiers=("landlock",))
    with pytest.raises(ConfigError, match="cannot protect"):
        await runner.start()
    await runner.aclose()
    box = await make("bubblewrap", rules=rules)
    assert (await box.run("echo x > big/file"))[0] != 0


KILLED = """
import asyncio, os, sys
from pathlib import Path
from lathe.sandbox.policy import SandboxPolicy
from lathe.sandbox.runner import Runner
async def main(workspace, memory):
    policy = SandboxPolicy(writable_roots=(workspace,))
    runner = Runner(policy, cwd=Path(workspace), env=dict(os.environ), tiers=("landlock",), memory=Path(memory))
    script = "echo x > .git/hooks/pre-commit; echo x >> .git/config; touch planted; sleep 60"
    process = await runner.spawn(["/bin/sh", "-c", script], cwd=workspace, on_output=len)
    await process.wait()
asyncio.run(main(*sys.argv[1:]))
"""


def test_the_next_lathe_puts_back_what_a_killed_one_left(repository: Path, outside: Path, make: MakeBox) -> None:
    before = kept(repository)
    memory = outside / "memory"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(repository), str(memory)], stderr=subprocess.PIPE)
    while not (repository / "planted").exists():
        if process.poll() is not None:
            assert process.stderr is not None
            pytest.skip(process.stderr.read().decode()[-300:])
        time.sleep(0.01)
    assert recover(memory) == []  # it lives
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert kept(repository) != before
    (line,) = recover(memory)
    assert kept(repository) == before
    assert "pre-commit" in line
    assert [path.name.partition("-")[2] for path in memory.rglob("*-config")] == ["config"]
    assert recover(memory) == []
    assert memory.stat().st_mode & 0o077 == 0


async def test_a_lathe_that_is_killed_while_nothing_runs_puts_nothing_back(
    make: MakeBox, repository: Path, outside: Path
) -> None:
    memory = outside / "memory"
    box: Box = await make("landlock", rules=RULES, memory=memory)
    await box.run("true")
    await asyncio.wait_for(until(lambda: any(memory.glob("*.idle"))), 20)
    await box.runner.aclose()
    assert list(memory.iterdir()) == []
