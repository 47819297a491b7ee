"""Limits on what commands may use: they hold, they are told of, and nothing of them stays behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from conftest import CONFINING, Box, MakeBox

from lathe.sandbox import cgroups
from lathe.sandbox.limits import Limits

BOMB = "f() { f | f & }; f; wait; sleep 60"
_WITHOUT_ANY_CLEANING = """
import asyncio, os, sys
from pathlib import Path
from lathe.sandbox.limits import Limits
from lathe.sandbox.policy import SandboxPolicy
from lathe.sandbox.runner import Runner
async def main():
    folder = sys.argv[1]
    policy = SandboxPolicy(writable_roots=(folder,))
    runner = Runner(policy, cwd=Path(folder), env={"PATH": os.defpath}, limits=Limits(500, 50))
    await runner.spawn(["sleep", "60"], cwd=folder, on_output=len)
    print(runner.controls.driver, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


def groups_of_others() -> list[str]:
    """Return the folders of cgroups that Lathe made, but for those of this process."""
    found = subprocess.run(
        ["find", "/sys/fs/cgroup", "-name", f"lathe-*-{os.getpid()}-*", "-prune", "-o", "-name", "lathe-*", "-print"],
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.split()


async def limited(make: MakeBox, tier: str, limits: Limits) -> Box:
    box = await make(tier, limits=limits)
    assert box.runner.controls is not None
    return box


@pytest.mark.parametrize("tier", CONFINING)
@pytest.mark.parametrize(
    ("limits", "script", "line"),
    [
        (
            Limits(memory_mb=100),
            "python3 -c 'bytearray(300 << 20)'",
            "memory 100 MiB was reached; 1 process was killed; set limits.memory_mb",
        ),
        (
            Limits(processes=20),
            'python3 -c \'import subprocess; [subprocess.Popen(["sleep", "5"]) for _ in range(30)]\'',
            "20 processes were reached",
        ),
        (
            Limits(cpu_seconds=1),
            "while :; do :; done",
            "1 s of CPU was reached; the process was ended; set limits.cpu_seconds",
        ),
        (
            Limits(file_mb=1),
            "dd if=/dev/zero of=big bs=1M count=3",
            "a file of 1 MiB was reached; the process was ended; set limits.file_mb",
        ),
        (Limits(open_files=50), "ulimit -n; exit 1", ""),
    ],
    ids=["memory", "processes", "CPU", "file", "open files"],
)
async def test_a_command_that_meets_a_limit_is_stopped_and_says_so(
    make: MakeBox, tier: str, limits: Limits, script: str, line: str
) -> None:
    box = await limited(make, tier, limits)
    controls = box.runner.controls
    assert controls is not None
    if controls.missing or (controls.driver == "rlimits" and (limits.memory_mb or limits.processes)):
        pytest.skip(f"{controls.driver} tells nothing of this limit")
    status, output = await box.run(script)
    assert status != 0
    said = box.runner.limits_met(status)
    if line:
        assert len(said) == 1
        assert line in said[0]
    else:
        assert output.split() == ["50"]
    assert (await box.run("exit 0"))[0] == 0
    assert box.runner.limits_met(0) == []


@pytest.mark.parametrize("tier", CONFINING)
async def test_a_fork_bomb_ends_with_the_turn(make: MakeBox, tier: str) -> None:
    box = await limited(make, tier, Limits(memory_mb=1000, processes=100))
    assert box.runner.controls is not None
    if box.runner.controls.missing:
        pytest.skip("nothing limits the processes of this user here")
    await box.spawn(BOMB)
    await asyncio.sleep(0.5)
    await box.runner.end_all()
    assert (await box.run("exit 7"))[0] == 7


async def test_the_built_in_limits_follow_the_machine(make: MakeBox) -> None:
    box = await limited(make, "bubblewrap", Limits(None, None))
    controls = box.runner.controls
    assert controls is not None
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    assert whole * 0.1 < (controls.limits.memory_mb or 0) < whole
    assert 1024 <= (controls.limits.processes or 0) <= 4096
    assert await box.run("cat /proc/self/oom_score_adj") != (0, Path("/proc/self/oom_score_adj").read_text())


async def test_no_sandbox_means_no_limits(make: MakeBox) -> None:
    box = await make("none", limits=Limits(memory_mb=100))
    assert box.runner.controls is None


async def test_groups_of_a_killed_lathe_are_removed_at_the_next_start(
    make: MakeBox, tmp_path: Path, environment: Mapping[str, str]
) -> None:
    command = [sys.executable, "-c", _WITHOUT_ANY_CLEANING, str(tmp_path)]
    with subprocess.Popen(command, env={**environment}, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        driver = process.stdout.readline().strip()
        left = [group for group in groups_of_others() if f"-{process.pid}-" in group]
        process.send_signal(signal.SIGKILL)
    if not driver.startswith("cgroup"):
        pytest.skip("no cgroup can be made here")
    assert left
    assert all(Path(group).exists() for group in left)
    await limited(make, "bubblewrap", Limits(500, 50))
    assert not set(left) & set(groups_of_others())


def tree(root: Path, controllers: str) -> None:
    """Lay out a folder as a cgroup of version 2 that passes on `controllers`."""
    root.mkdir(parents=True)
    (root / "cgroup.subtree_control").write_text(controllers)
    (root / "cgroup.procs").touch()


def test_of_version_2_the_nearest_group_that_passes_the_controllers_on_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = tmp_path / "cgroup"
    tree(top, "cpu memory pids\n")
    tree(top / "user.slice", "memory pids\n")
    tree(top / "user.slice" / "app.scope", "\n")
    (tmp_path / "mountinfo").write_text(f"30 24 0:26 / {top} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n")
    (tmp_path / "own").write_text("0::/user.slice/app.scope\n")
    monkeypatch.setattr(cgroups, "_MOUNTS", tmp_path / "mountinfo")
    monkeypatch.setattr(cgroups, "_OWN", tmp_path / "own")
    assert list(cgroups._places(["memory", "pids", "cpu"])) == [
        (2, {"memory": top / "user.slice", "pids": top / "user.slice"})
    ]
    (top / "user.slice" / "memory.max").write_text("1073741824\n")
    (top / "user.slice" / "app.scope" / "memory.max").write_text("max\n")
    assert cgroups.memory_limit() == 1 << 30
