"""Nothing is left behind, however it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import STARTED_BY, Box, MakeBox, Traced

from lathe.sandbox.runner import Runner, SpawnError

# A family that does all it can to get away: sessions of their own, double forks, ears shut, an empty environment.
FAMILY = """
import os, signal, sys, time
def away(depth):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            if depth:
                away(depth - 1)
            while True:
                time.sleep(60)
        os._exit(0)
away(3)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
while True:
    time.sleep(60)
"""
MEMBERS = 5
PARENT = """
import asyncio, json, os, sys
from pathlib import Path
from lathe.sandbox.policy import SandboxPolicy
from lathe.sandbox.runner import Runner

async def main(tier, workspace, *argv):
    mode = "danger-full-access" if tier == "none" else "workspace-write"
    runner = Runner(
        SandboxPolicy(mode=mode, writable_roots=(workspace,)), cwd=Path(workspace), env=dict(os.environ), tiers=(tier,)
    )
    for tty in (None, (24, 80)):
        await runner.spawn(argv, cwd=workspace, on_output=len, tty=tty)
    print("running", flush=True)
    await asyncio.sleep(600)

asyncio.run(main(*sys.argv[1:]))
"""


def family(traced: Traced) -> list[str]:
    return [os.path.realpath(sys.executable), "-I", "-c", FAMILY, traced.word]


async def until(traced: Traced, count: int) -> None:
    await asyncio.to_thread(traced.until, lambda n: n >= count)


async def test_a_kill_ends_the_whole_family(box: Box, traced: Traced) -> None:
    process = await box.runner.spawn(family(traced), cwd="/", on_output=len)
    await until(traced, MEMBERS)
    await asyncio.wait_for(process.kill(), 20)
    assert traced.alive() == []
    assert process.returncode == -signal.SIGKILL
    assert await box.run("echo fine") == (0, "fine\n")


async def test_a_kill_asks_first(box: Box) -> None:
    ready = asyncio.Event()
    output = bytearray()

    def hear(block: bytes) -> None:
        output.extend(block)
        ready.set()

    process = await box.spawn("trap 'echo goodbye; exit 5' TERM; echo ready; while :; do sleep 0.1; done", hear)
    await ready.wait()
    await asyncio.gather(process.kill(), process.kill())
    assert process.returncode == 5
    assert output.endswith(b"goodbye\n")
    await process.kill()


async def test_a_kill_leaves_other_commands_alone(box: Box, traced: Traced) -> None:
    other = await box.spawn(f"setsid sleep 600.{int(traced.word[:8], 16)} & sleep 600")
    process = await box.runner.spawn(family(traced), cwd="/", on_output=len, tty=(24, 80))
    await until(traced, MEMBERS)
    await process.kill()
    assert traced.alive() == []
    assert other.returncode is None
    assert (await box.run("echo fine"))[0] == 0


async def test_a_kill_after_the_exit_ends_what_went_on_in_the_background(box: Box, traced: Traced) -> None:
    script = f"nohup setsid bash -c 'while :; do sleep 1; done' {traced.word} > /dev/null 2>&1 &"
    process = await box.spawn(script)
    assert await process.wait() == 0
    await until(traced, 1)
    await asyncio.wait_for(process.kill(), 20)
    assert traced.alive() == []
    assert process.returncode == 0


async def test_a_stopped_process_dies_too(box: Box, traced: Traced) -> None:
    process = await box.spawn(f"kill -STOP $$; : {traced.word}")
    await until(traced, 1)
    await asyncio.wait_for(process.kill(), 20)
    assert traced.alive() == []


async def test_a_spawn_that_is_cancelled_leaves_nothing(box: Box, traced: Traced) -> None:
    for turns in range(6):
        spawning = asyncio.create_task(box.spawn(f"while :; do sleep 1; done; : {traced.word}"))
        for _ in range(turns):
            await asyncio.sleep(0)
        spawning.cancel()
        result = (await asyncio.gather(spawning, return_exceptions=True))[0]
        if not isinstance(result, asyncio.CancelledError):
            await result.kill()
        assert traced.alive() == []


async def test_closing_a_runner_ends_everything(box: Box, traced: Traced) -> None:
    processes = [await box.runner.spawn(family(traced), cwd="/", on_output=len, tty=tty) for tty in (None, (24, 80))]
    done = await box.spawn(f"setsid sh -c 'trap : TERM; while :; do sleep 1; done' {traced.word} & sleep 0")
    await done.wait()
    await until(traced, 2 * MEMBERS + 1)
    await asyncio.wait_for(box.runner.aclose(), 30)
    assert traced.alive() == []
    assert [process.returncode for process in processes] == [-signal.SIGKILL] * 2
    await box.runner.aclose()
    with pytest.raises(RuntimeError, match="closed"):
        await box.run("true")


async def test_a_runner_closes_while_commands_are_being_started(box: Box, traced: Traced) -> None:
    starting = [asyncio.create_task(box.spawn(f"sleep 600; : {traced.word}")) for _ in range(20)]
    await asyncio.sleep(0)
    await box.runner.aclose()
    results = await asyncio.gather(*starting, return_exceptions=True)
    assert traced.alive() == []
    assert all(isinstance(r, SpawnError | RuntimeError) or r.returncode is not None for r in results)


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
async def test_nothing_outlives_a_lathe_that_is_killed(
    tier: str, ending: signal.Signals, make: MakeBox, workspace: Path, traced: Traced
) -> None:
    await make(tier)  # skips where the tier does not work
    argv = [sys.executable, "-c", PARENT, STARTED_BY.get(tier, tier), str(workspace), *family(traced)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True) as parent:
        assert parent.stdout is not None
        await asyncio.to_thread(parent.stdout.readline)
        await until(traced, 2 * MEMBERS)
        parent.send_signal(ending)
    await asyncio.to_thread(traced.until, lambda n: n == 0)


async def test_a_command_that_kills_all_it_sees_does_not_take_the_sandbox_along(make: MakeBox) -> None:
    box = await make("bubblewrap")
    await box.run("kill -9 -1; kill -9 1; kill -9 $PPID")
    assert await box.run("echo fine") == (0, "fine\n")


async def test_a_server_that_dies_is_replaced_and_leaves_nothing(box: Box, traced: Traced) -> None:
    process = await box.spawn(f"while :; do sleep 1; done; : {traced.word}")
    await until(traced, 1)
    for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        if b"exec_server" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(int(pid), signal.SIGKILL)
    assert await asyncio.wait_for(process.wait(), 20) == -signal.SIGKILL
    await process.kill()
    await asyncio.to_thread(traced.until, lambda n: n == 0)
    assert await box.run("echo fine") == (0, "fine\n")


async def test_a_runner_leaves_no_child_behind(box: Box) -> None:
    await box.run("true")
    runner: Runner = box.runner
    await runner.aclose()
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    assert [pid for pid in children if b"exec_server" in Path(f"/proc/{pid}/cmdline").read_bytes()] == []
