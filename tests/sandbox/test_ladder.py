"""The kinds of sandbox: which is taken, what is said of a weaker one, and what each takes away."""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path

import pytest
from conftest import MakeBox

from lathe.protocol.errors import ConfigError
from lathe.sandbox.ladder import tiers_down_to
from lathe.sandbox.limits import Limits
from lathe.sandbox.policy import SandboxPolicy
from lathe.sandbox.probe import probe
from lathe.sandbox.runner import Runner
from lathe.tools.sessions import CommandSessions


def test_a_probe_tells_of_every_kind(own_home: Path) -> None:
    reports = probe(Limits(None, None))
    assert [report.rung.letter for report in reports] == list("ABCDEF")
    for report in reports:
        assert report.reason
        assert report.works or report.fix


@pytest.mark.parametrize("confined_to", [("machine-proc",), ("shared-network",), ("landlock",)])
async def test_a_weaker_kind_is_told_of_in_a_sentence_and_the_strongest_not(
    workspace: Path, environment: dict[str, str], confined_to: tuple[str, ...]
) -> None:
    policy = SandboxPolicy(writable_roots=(str(workspace),))
    for tiers, told in ((("bubblewrap",), False), (confined_to, True)):
        sessions = CommandSessions(policy, cwd=workspace, env=environment, tiers=tiers)
        assert sessions.weakness() == ""
        try:
            await sessions.start()
        except ConfigError as error:
            pytest.skip(error.message)
        finally:
            await sessions.aclose()
        if not told and sessions.weakness():
            pytest.skip("this machine has no /proc to mount")
        assert bool(sessions.weakness()) == told


async def test_a_container_serves_as_the_sandbox_only_where_it_is_one_and_is_asked_for(
    workspace: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "container" not in tiers_down_to("landlock")
    policy = SandboxPolicy(writable_roots=(str(workspace),))
    monkeypatch.setattr("lathe.sandbox.tiers.in_container", lambda: False)
    runner = Runner(policy, cwd=workspace, env=environment, tiers=("container",))
    with pytest.raises(ConfigError, match="no container"):
        await runner.start()
    monkeypatch.setattr("lathe.sandbox.tiers.in_container", lambda: True)
    runner = Runner(policy, cwd=workspace, env=environment, tiers=("container",))
    try:
        output = bytearray()
        script = "grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status; python3 -c 'import socket; socket.socket()'"
        process = await runner.spawn(["bash", "-c", script], cwd=str(workspace), on_output=output.extend)
        assert await process.wait() == 1
    finally:
        await runner.aclose()
    assert b"PermissionError" in output
    assert b"NoNewPrivs:\t1" in output
    assert b"Seccomp:\t2" in output
    assert b"CapEff:\t0000000000000000" in output


@pytest.mark.parametrize("kind", ["bubblewrap", "bubblewrap with the machine's proc"])
async def test_what_only_an_attacker_misses_is_taken_away_and_the_rest_works(make: MakeBox, kind: str) -> None:
    box = await make(kind)
    numbers = {"x86_64": (425, 321, 323, 250), "aarch64": (425, 280, 282, 219)}[os.uname().machine]
    script = (
        "import ctypes, os; libc = ctypes.CDLL(None, use_errno=True)\n"
        f"for number in {numbers}:\n"
        "    print(libc.syscall(number, 0, 0, 0, 0), os.strerror(ctypes.get_errno()))\n"
        "import fcntl, pty; _, slave = pty.openpty()\n"
        "try: fcntl.ioctl(slave, 0x5412, b'x')\n"
        "except PermissionError: print('no typing')\n"
        "import socket; socket.socket().close(); socket.socketpair()\n"
        "print('works')"
    )
    status, output = await box.run(f"/usr/bin/python3 -c {shlex.quote(script)}")
    assert status == 0
    lines = output.splitlines()
    assert all(line.startswith("-1 ") for line in lines[:4])
    assert lines[0] == lines[3] == "-1 Function not implemented"
    assert lines[4:] == ["no typing", "works"]
    nested = f"bwrap --unshare-user --unshare-net --ro-bind / / --dev /dev --bind {box.workspace} {box.workspace} true"
    if shutil.which("bwrap") and kind == "bubblewrap":  # elsewhere no uid map can be written
        assert (await box.run(nested))[0] == 0
    if shutil.which("strace"):
        assert (await box.run("strace -f -o trace sh -c true && grep -q execve trace"))[0] == 0
