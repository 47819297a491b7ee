"""What Lathe's harness costs a trial that does nothing, and what a container costs beside it in the same run.

Each trial is whole: an environment of its own, the agent, the verifier's script, the reward, the journal. The baseline
is the same trials in Podman, where it is on this machine, a tenth as many.

usage: eval_overhead.py [--check] [--json] [--trials N] [--jobs N] [--kinds KIND ...]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import table

from lathe.evals.agents.plain import NoOp
from lathe.evals.environments.base import EnvironmentFault
from lathe.evals.environments.maker import open_maker
from lathe.evals.journal import RunFolder
from lathe.evals.progress import Progress
from lathe.evals.record import Plan
from lathe.evals.run import Runner
from lathe.evals.task import EnvironmentSpec, Network, Resources, Task, VerifierSpec

BAR = 20.0


def noop_task(folder: Path) -> Task:
    """Return a task with one file, whose verifier says 0."""
    (folder / "tests").mkdir(parents=True)
    (folder / "tests" / "test.sh").write_text("echo 0 > /logs/verifier/reward.txt\n")
    (folder / "note.txt").write_text("Nothing is to be done.\n")
    spec = EnvironmentSpec(
        files=((folder / "note.txt", "/app/note.txt"),),
        workdir="/app",
        resources=Resources(memory_mb=256),
        network=Network("none"),
    )
    return Task(
        name="nothing",
        dataset="overhead",
        digest="0",
        instruction="Do nothing.",
        environment=spec,
        verifier=VerifierSpec(tests=folder / "tests"),
    )


async def measure(kind: str, trials: int, jobs: int, folder: Path) -> dict[str, Any]:
    """Run the trials and return what they took."""
    task = noop_task(folder / "task")
    plan = Plan(
        id="overhead",
        dataset="overhead",
        dataset_name="overhead",
        dataset_version="1",
        tasks=((task.name, task.digest),),
        agent="noop",
        attempts=trials,
        environment=kind,
    )
    maker = open_maker(kind, folder / "cache")
    run = RunFolder.create(folder / "run", plan)
    runner = Runner(run, {task.name: task}, NoOp(), maker, Progress(trials, [], quiet=True), jobs=jobs)
    before, began = _cpu_s(), time.perf_counter()
    done = await runner.run()
    wall, cpu = time.perf_counter() - began, _cpu_s() - before
    scored = [one for one in done if one.reward == 0.0]
    starts = sorted(one.times.start for one in scored)
    return {
        "kind": kind,
        "trials": trials,
        "scored": len(scored),
        "rate": len(scored) / wall,
        "cpu_ms": cpu * 1000 / trials,
        "start_p50_ms": starts[len(starts) // 2] * 1000 if starts else None,
        "start_p99_ms": starts[int(len(starts) * 0.99)] * 1000 if starts else None,
        "faults": [one.why for one in done if one.verdict == "fault"][:3],
    }


def _cpu_s() -> float:
    return sum(
        used.ru_utime + used.ru_stime
        for used in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )


def main() -> int:
    """Measure, print, and return 1 with --check where the bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--kinds", nargs="+", default=["rootfs", "podman"])
    options = parser.parse_args()
    found: list[dict[str, Any]] = []
    for kind in options.kinds:
        trials = options.trials if kind == "rootfs" else max(10, options.trials // 10)
        with tempfile.TemporaryDirectory(prefix="lathe-eval-overhead-") as scratch:
            try:
                found.append(asyncio.run(measure(kind, trials, options.jobs, Path(scratch))))
            except EnvironmentFault as fault:
                sys.stderr.write(f"{kind}: {fault}\n")
    rate = next((one["rate"] for one in found if one["kind"] == "rootfs"), 0.0)
    missed = [] if rate >= BAR else [f"{rate:.1f} trials a second, and the bar is {BAR:g}"]
    missed += [
        f"{one['kind']}: {one['scored']} of {one['trials']} scored" for one in found if one["scored"] < one["trials"]
    ]
    if options.json:
        print(json.dumps({"found": found, "bar": BAR, "missed": missed}))
    else:
        rows = [
            [
                one["kind"],
                str(one["trials"]),
                f"{one['rate']:.1f}",
                f"{one['cpu_ms']:.0f}",
                _ms(one["start_p50_ms"]),
                _ms(one["start_p99_ms"]),
            ]
            for one in found
        ]
        print(
            table(
                ["environment", "trials", "trials a second", "CPU ms a trial", "start p50, ms", "start p99, ms"], rows
            )
        )
        for line in (*missed, *(why for one in found for why in one["faults"])):
            print(f"missed: {line}")
    return 1 if options.check and missed else 0


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


if __name__ == "__main__":
    raise SystemExit(main())
