"""Tasks that are small enough to run by the hundred, and a run of them as a program that can be killed."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from lathe.evals.agents.plain import Script
from lathe.evals.environments.maker import open_maker
from lathe.evals.journal import RunFolder
from lathe.evals.progress import Progress
from lathe.evals.record import Plan
from lathe.evals.run import Runner
from lathe.evals.task import EnvironmentSpec, Network, Resources, Task, VerifierSpec

TEST = """
n=$(cat /app/number)
if [ "$(cat /app/answer 2>/dev/null)" = "$((n * 2))" ]; then echo 1; else echo 0; fi > /logs/verifier/reward.txt
"""
AGENT = """
n=$(cat /app/number)
# Every third is got wrong, so that rewards can be told apart.
if [ $((n % 3)) = 0 ]; then echo 0 > /app/answer; else echo $((n * 2)) > /app/answer; fi
"""


def doubling(folder: Path, count: int) -> dict[str, Task]:
    """Return tasks in each of which a number is to be doubled."""
    tests = folder / "tests"
    tests.mkdir(parents=True, exist_ok=True)
    (tests / "test.sh").write_text(TEST)
    found = {}
    for number in range(count):
        file = folder / f"number-{number}"
        file.write_text(str(number))
        name = f"double-{number}"
        spec = EnvironmentSpec(
            files=((file, "/app/number"),),
            workdir="/app",
            resources=Resources(memory_mb=256),
            network=Network("none"),
        )
        found[name] = Task(
            name=name,
            dataset="doubling",
            digest=f"digest-{number}",
            instruction=f"Double {number}.",
            environment=spec,
            verifier=VerifierSpec(tests=tests, timeout_s=60),
        )
    return found


def plan_of(tasks: dict[str, Task], **fields: object) -> Plan:
    """Return a plan for all of them."""
    return Plan(
        id="run",
        dataset="doubling",
        dataset_name="doubling",
        dataset_version="1",
        tasks=tuple((one.name, one.digest) for one in tasks.values()),
        **{"agent": "script", **fields},  # type: ignore[arg-type]
    )


async def go(folder: Path, count: int, cache: Path) -> None:
    """Go on with the run in `folder`, or begin it."""
    tasks = doubling(folder.parent / "tasks", count)
    agent = folder.parent / "agent.sh"
    agent.write_text(AGENT)
    run = RunFolder(folder) if (folder / "plan.json").exists() else RunFolder.create(folder, plan_of(tasks))
    maker = open_maker("rootfs", cache)
    await Runner(run, tasks, Script(agent), maker, Progress(count, [], quiet=True), jobs=2).run()


if __name__ == "__main__":
    asyncio.run(go(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])))
