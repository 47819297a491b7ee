"""What the sandbox costs a command: `true` started in it and waited for, against `true` started without one.

Every round starts a batch of each way in turn, so that all of them meet the same noise. Wall is the median over
single commands. CPU is user and system time of everybody who works for a command: this process, its children, and for
a sandbox also bubblewrap, the exec server and what that has reaped. The baselines are `subprocess.run(["true"])`, which
reads no output, and `asyncio.create_subprocess_exec` with pipes, as the sandbox has them; what counts is the cheaper of
both. A cold start is that of a runner with its first command. The limits are those that are built in; what may not be
changed is looked at after each command, and what is written is recorded, as for the agent's commands.

Writing: a program makes 2,000 files, of each of which the kernel tells Lathe, beside the same one without a sandbox.

usage: sandbox_cost.py [--check] [--json] [--rounds N]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple, TypeAlias

from measuring import median, table
from sandbox_escape import STARTED_BY

from lathe.protocol.errors import ConfigError
from lathe.sandbox.limits import Limits
from lathe.sandbox.policy import SandboxPolicy
from lathe.sandbox.runner import Runner
from lathe.sandbox.writes import Writes

BAR = 2.0
BARRED = ("bubblewrap", "bubblewrap with the machine's proc")
BATCH = 20
TICK = os.sysconf("SC_CLK_TCK")

Spawn: TypeAlias = Callable[[], Awaitable[object]]


class Cost(NamedTuple):
    """Milliseconds: median wall and mean CPU of a command, and the first of all (0 where there is nothing to start)."""

    wall: float
    cpu: float
    cold: float


class Way:
    """One way of starting `true`, and what was measured of it; `servers` are the pids of a sandbox."""

    def __init__(self, spawn: Spawn, cold: float = 0.0, servers: tuple[int, ...] = ()) -> None:
        self.spawn = spawn
        self.cold = cold
        self._servers = servers
        self._walls: list[float] = []
        self._own = 0.0
        self._before = 0.0

    async def batch(self) -> None:
        """Run a batch of commands."""
        own = _own_cpu()
        for _ in range(BATCH):
            began = time.perf_counter()
            await self.spawn()
            self._walls.append(time.perf_counter() - began)
        self._own += _own_cpu() - own

    def settle(self) -> None:
        """Forget what was measured so far: it warmed up."""
        self._walls.clear()
        self._own = 0.0
        self._before = sum(map(_tree_cpu, self._servers))

    def cost(self) -> Cost:
        """Return what was measured."""
        # cut to 10 ms, but once for all the rounds: the server does nothing while others have their turn
        served = sum(map(_tree_cpu, self._servers)) - self._before
        each = (self._own + served) / len(self._walls)
        return Cost(median(self._walls) * 1000, each * 1000, self.cold * 1000)


def _own_cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _tree_cpu(pid: int) -> float:
    """Return the seconds of CPU of a process and of the children that it has reaped (proc(5), fields 14 to 17)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICK


def _below(pid: int) -> tuple[int, ...]:
    """Return a process and all that live below it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return (pid, *(one for child in children for one in _below(int(child))))


async def sandboxed(tier: str, folder: Path) -> tuple[Runner, Way]:
    """Start a runner of a tier; raise `ConfigError` where the tier cannot be had."""
    policy = SandboxPolicy(writable_roots=(str(folder),))
    env = {"PATH": os.environ["PATH"]}
    whole = {"limits": Limits(None, None), "memory": folder / "kept", "writes": Writes()}
    runner = Runner(policy, cwd=folder, env=env, tiers=(STARTED_BY[tier],), **whole)

    async def spawn() -> None:
        process = await runner.spawn(["true"], cwd=str(folder), on_output=lambda block: None)
        await process.wait()

    began = time.perf_counter()
    try:
        await spawn()
    except ConfigError:
        await runner.aclose()
        raise
    cold = time.perf_counter() - began
    assert runner._server is not None
    return runner, Way(spawn, cold, _below(runner._server._pid))


WRITING = """
import time
began = time.perf_counter()
for number in range(2000):
    with open(f"written-{number % 100}", "w") as file: file.write("x")
print((time.perf_counter() - began) / 2000 * 1e6)
"""


async def writing(tier: str, folder: Path) -> float:
    """Return the microseconds that a file takes which is opened, written and closed in a sandbox."""
    runner, _ = await sandboxed(tier, folder)
    output = bytearray()
    try:
        argv = [sys.executable, "-I", "-c", WRITING]
        process = await runner.spawn(argv, cwd=str(folder), on_output=output.extend)
        await process.wait()
    finally:
        await runner.aclose()
    return float(output)


def writing_freely(folder: Path) -> float:
    argv = [sys.executable, "-I", "-c", WRITING]
    return float(subprocess.run(argv, cwd=folder, capture_output=True, check=True).stdout)


async def by_run() -> None:
    subprocess.run(["true"], check=True)


async def by_asyncio() -> None:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec("true", stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe)
    await process.communicate()


async def measure(folder: Path, rounds: int) -> dict[str, Cost]:
    """Return the costs by the name of the way; a tier that does not work here has none."""
    ways = {"subprocess.run": Way(by_run), "asyncio.create_subprocess_exec": Way(by_asyncio)}
    runners: list[Runner] = []
    try:
        for tier in STARTED_BY:
            try:
                runner, ways[tier] = await sandboxed(tier, folder)
            except ConfigError as error:
                sys.stderr.write(f"{tier} does not work here: {error.message}\n")
                continue
            runners.append(runner)
        for number in range(rounds + 2):
            if number == 2:
                for way in ways.values():
                    way.settle()
            for way in ways.values():
                await way.batch()
        return {name: way.cost() for name, way in ways.items()}
    finally:
        for runner in runners:
            await runner.aclose()


def main() -> int:
    """Measure, print, and return 1 with --check where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lathe-cost-") as folder:
        costs = asyncio.run(measure(Path(folder), options.rounds))
        free_us = median([writing_freely(Path(folder)) for _ in range(5)])
        recorded_us = median([asyncio.run(writing("bubblewrap", Path(folder))) for _ in range(5)])
    free = [cost for name, cost in costs.items() if name not in STARTED_BY]
    wall, cpu = min(cost.wall for cost in free), min(cost.cpu for cost in free)
    times = {name: (cost.wall / wall, cost.cpu / cpu) for name, cost in costs.items()}
    writes = {"written_us": recorded_us, "written_freely_us": free_us}
    missed = [name for name in BARRED if name in times and max(times[name]) > BAR]
    if options.json:
        figures = {name: cost._asdict() for name, cost in costs.items()}
        print(json.dumps({"at": time.time(), "figures": figures, "times": times, "missed": missed} | writes))
    else:
        rows = [
            [
                name,
                f"{cost.wall:.2f}",
                f"{times[name][0]:.2f}",
                f"{cost.cpu:.2f}",
                f"{times[name][1]:.2f}",
                f"{cost.cold:.0f}" if cost.cold else "",
            ]
            for name, cost in costs.items()
        ]
        print(table(["`true`", "wall, ms", "times", "CPU, ms", "times", "cold start, ms"], rows))
        print(f"\na file written: {recorded_us:.0f} µs in bubblewrap, {free_us:.0f} µs without a sandbox")
        print("\n".join(f"missed: {name}" for name in missed))
    return int(options.check and bool(missed))


if __name__ == "__main__":
    sys.exit(main())
