"""A stop leaves nothing, and says so only where it is true."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from typing import Any

import pytest
from conftest import Box, MakeBox, Traced

from lathe.sandbox.runner import SpawnError

# Ends by itself, should it not be stopped.
HOPPING = """
import os, time
end = time.monotonic() + 30
while time.monotonic() < end:
    if os.fork():
        os._exit(0)
    os.setsid()
"""
HEADLESS = """
import ctypes, os, sys, threading, time
def live():
    for _ in range(6000):
        os.utime(sys.argv[1])
        time.sleep(0.005)
threading.Thread(target=live).start()
ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[os.uname().machine], 0)
"""


async def start(box: Box, traced: Traced, code: str) -> None:
    python = os.path.realpath(sys.executable)
    await box.runner.spawn([python, "-I", "-S", "-c", code, traced.word], cwd="/", on_output=len)
    await asyncio.to_thread(traced.until, lambda n: n >= 1)


@pytest.mark.parametrize("tracked", [True, False], ids=["with a control group", "without one"])
async def test_who_hops_from_number_to_number_is_caught(
    tier: str, make: MakeBox, traced: Traced, tracked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not tracked:
        monkeypatch.setattr("lathe.sandbox.cgroups.track", lambda pid: None)
    box = await make(tier)
    await start(box, traced, HOPPING)
    stopped = await box.runner.stop("Enough.")
    assert stopped.proven
    assert [traced.alive() for _ in range(20)] == [[]] * 20


async def test_a_process_that_looks_like_a_zombie_is_none(box: Box) -> None:
    beat = box.workspace / "beat"
    beat.touch()
    os.utime(beat, (0, 0))
    python = os.path.realpath(sys.executable)
    process = await box.runner.spawn([python, "-I", "-S", "-c", HEADLESS, str(beat)], cwd="/", on_output=len)
    while not beat.stat().st_mtime:
        await asyncio.sleep(0.01)
    await asyncio.wait_for(process.kill(), 20)
    last = beat.stat().st_mtime_ns
    await asyncio.sleep(0.05)
    assert beat.stat().st_mtime_ns == last
    stopped = await box.runner.stop("Enough.")
    assert (stopped.found, stopped.proven) == (0, True)


async def test_nothing_is_started_after_a_stop_until_it_may(box: Box) -> None:
    process = await box.spawn("sleep 600")
    stopped = await box.runner.stop("The agent was stopped.")
    assert stopped.proven
    assert stopped.found >= 1
    assert process.returncode is not None
    with pytest.raises(SpawnError, match="was stopped"):
        await box.run("true")
    box.runner.resume()
    assert await box.run("echo fine") == (0, "fine\n")


async def test_it_needs_no_event_loop(box: Box, traced: Traced) -> None:
    await box.spawn(f"setsid bash -c 'while :; do sleep 1; done' {traced.word} & sleep 600")
    await asyncio.to_thread(traced.until, lambda n: n >= 1)
    found = []
    thread = threading.Thread(target=lambda: found.append(box.runner.stop_now("Enough.")))
    thread.start()
    while thread.is_alive():
        time.sleep(0.005)  # the loop hangs all the while
    assert found[0].proven
    assert traced.alive() == []


async def test_a_server_that_speaks_at_once_is_known_by_its_pid(make: MakeBox, monkeypatch: pytest.MonkeyPatch) -> None:
    spawn = os.posix_spawn

    def held_up(*args: Any, **more: Any) -> int:
        pid = spawn(*args, **more)
        time.sleep(0.5)  # as on a busy machine: what was started runs, and we do not
        return pid

    monkeypatch.setattr(os, "posix_spawn", held_up)
    box = await make("none")
    _, said = await box.run("echo $PPID")
    assert box.runner._reach is not None
    assert box.runner._reach.server == int(said)
