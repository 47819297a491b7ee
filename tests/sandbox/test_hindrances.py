"""Machines and workspaces that stand in the way: the work is done in a weaker sandbox, or one sentence says why not."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the filter has the numbers of x86-64")
DOCKER = """
import ctypes, os, struct, sys
landlock = sys.argv.pop(1) == "landlock"
refused = [165, 166, 155, 272, 308, 248, 249, 250, 425, 428, 429, 430, 431, 432, 433, 442]  # mounts, unshare, keys
missing = [435] if landlock else [435, 444, 445, 446]
steps = [(0x20, 0, 0, 0)]
for number in refused + missing:
    steps += [(0x15, 0, 1, number), (6, 0, 0, 0x50001 if number in refused else 0x50026)]
steps += [(0x15, 0, 4, 56), (0x20, 0, 0, 16), (0x45, 0, 1, 0x7E020000), (6, 0, 0, 0x50001), (6, 0, 0, 0x7FFF0000)]
steps += [(6, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(steps), ctypes.addressof(code)))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, ctypes.c_ulong(ctypes.addressof(program))) == 0
os.execvp(sys.argv[1], sys.argv[1:])
"""
RUN = """
import asyncio, json, os, sys
from pathlib import Path
from lathe.protocol.errors import LatheError
from lathe.sandbox.ladder import tiers_down_to
from lathe.sandbox.policy import SandboxPolicy
from lathe.tools.sessions import CommandSessions
from lathe.tools.output import OutputBuffer
async def main(folder, floor):
    policy = SandboxPolicy(writable_roots=(folder,))
    sessions = CommandSessions(policy, cwd=Path(folder), env={"PATH": os.environ["PATH"]}, tiers=tiers_down_to(floor))
    buffer = OutputBuffer(1000, Path(folder, "spill"))
    try:
        session = await sessions.open("echo done > made; cat made", buffer, cwd=folder)
        await session.wait(20, None, lambda text: None)
        said = {"output": buffer.take().text, "weakness": sessions.weakness()}
    except LatheError as error:
        said = {"error": error.message, "hint": error.hint}
    finally:
        await sessions.aclose()
    print(json.dumps(said))
asyncio.run(main(sys.argv[1], sys.argv[2]))
"""


def run(workspace: Path, *before: str, floor: str = "landlock") -> dict[str, str]:
    """Run a command of a thread in `workspace`, started by the program `before`; return what was seen."""
    command = [*before, sys.executable, "-c", RUN, str(workspace), floor]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=workspace, env=os.environ)
    assert done.returncode == 0, done.stderr
    said: dict[str, str] = json.loads(done.stdout)
    return said


def in_mounts(script: str) -> list[str]:
    if os.geteuid() != 0:
        pytest.skip("only root can mount here")
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", f'{script}; exec "$@"', "sh"]


def as_docker(*, landlock: bool = True) -> list[str]:
    return [sys.executable, "-c", DOCKER, "landlock" if landlock else "nothing"]


def test_where_docker_refuses_namespaces_landlock_does_the_work_and_the_person_is_told(workspace: Path) -> None:
    said = run(workspace, *as_docker())
    if "error" in said:
        pytest.skip(said["error"])
    assert said["output"] == "done\n"
    assert "D (Landlock)" in said["weakness"]


def test_where_nothing_works_one_sentence_says_so(workspace: Path) -> None:
    said = run(workspace, *as_docker(landlock=False))
    assert "cannot be had on this machine" in said["error"]
    assert "danger-full-access" in said["hint"]
    assert not (workspace / "made").exists()


def test_a_floor_refuses_what_is_below_it(workspace: Path) -> None:
    assert "cannot be had on this machine" in run(workspace, *as_docker(), floor="bubblewrap")["error"]


def test_without_bubblewrap_landlock_does_the_work(workspace: Path) -> None:
    said = run(workspace, *in_mounts("mount --bind /dev/null /usr/bin/bwrap"))
    if "error" in said:
        pytest.skip(said["error"])
    assert said["output"] == "done\n"
    assert "D (Landlock)" in said["weakness"]
    assert "Install bubblewrap" in said["weakness"]


def test_without_user_namespaces_landlock_does_the_work(workspace: Path) -> None:
    closed = 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"'
    before = ["unshare", "--user", "--map-root-user", "sh", "-c", closed, "sh"]
    if subprocess.run([*before, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no user namespace can be made")
    said = run(workspace, *before)
    if "error" in said:
        pytest.skip(said["error"])
    assert said["output"] == "done\n"
    assert "max_user_namespaces" in said["weakness"]


def test_in_a_workspace_that_cannot_be_written_commands_run_and_say_so(workspace: Path) -> None:
    said = run(workspace, *in_mounts(f"mount --bind {workspace} {workspace}; mount -o remount,ro,bind {workspace}"))
    assert "Read-only file system" in said["output"]


def test_a_workspace_with_a_line_break_in_its_name_is_one_like_any_other(tmp_path: Path) -> None:
    workspace = tmp_path / "two\nlines and spaces"
    workspace.mkdir()
    assert run(workspace)["output"] == "done\n"
    assert (workspace / "made").read_text() == "done\n"
