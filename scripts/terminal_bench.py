#!/usr/bin/env python3
"""Build tasks of Harbor's format and check each: its own solution has to give reward 1, doing nothing 0.

Usage: scripts/terminal_bench.py FOLDER [--only NAME ...] [--skip NAME ...] [--jobs N] [--results FILE] [--json]

FOLDER holds the tasks, such as a copy of Terminal-Bench 2.0. What is known of a task is kept in the results file after
each; a run that was ended goes on from there, and tries again what failed for want of a place (a fault). `--again`
tries all again, `--prune` removes each image after its task. Exits 1 where a task that ran did not give what it should.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from lathe.config.paths import cache_home
from lathe.evals.environments.base import Environment, EnvironmentFault, EnvironmentMaker
from lathe.evals.environments.maker import KINDS, open_maker
from lathe.evals.task import EnvironmentSpec, Network, Resources, Task, VerifierSpec

REWARD = "/logs/verifier/reward.txt"
UNITS = {"K": 1 / 1024, "M": 1, "G": 1024, "T": 1024 * 1024}


def megabytes(text: str | None, otherwise: int) -> int:
    """Return MiB of what is written like 2G."""
    if not text:
        return otherwise
    number = text.upper().rstrip("B").rstrip("I")
    return int(float(number[:-1]) * UNITS[number[-1]]) if number[-1] in UNITS else int(number) // (1 << 20)


def read_task(folder: Path) -> Task:
    """Return a task of Harbor's format."""
    table = tomllib.loads((folder / "task.toml").read_text(encoding="utf-8"))
    place, verifier, agent = (table.get(name, {}) for name in ("environment", "verifier", "agent"))
    resources = Resources(
        cpus=float(place.get("cpus") or 1),
        memory_mb=megabytes(place.get("memory"), 2048),
        disk_mb=megabytes(place.get("storage"), 10_240),
        gpus=int(place.get("gpus") or 0),
    )
    spec = EnvironmentSpec(
        context=folder / "environment",
        compose=any((folder / "environment").glob("docker-compose.y*ml")),
        env=place.get("env", {}),
        resources=resources,
        network=Network("public" if place.get("allow_internet", True) else "none"),
        build_timeout_s=float(place.get("build_timeout_sec") or 600),
    )
    checks = VerifierSpec(
        folder / "tests", env=verifier.get("env", {}), timeout_s=float(verifier.get("timeout_sec") or 600)
    )
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        total.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes() + b"\0")
    return Task(
        folder.name,
        folder.parent.name,
        total.hexdigest(),
        (folder / "instruction.md").read_text(encoding="utf-8"),
        spec,
        checks,
        solution=folder / "solution",
        agent_timeout_s=float(agent.get("timeout_sec") or 900),
    )


async def try_task(maker: EnvironmentMaker, task: Task, *, oracle: bool, log: Path) -> dict[str, Any]:
    """Return the reward of one trial, how long it took, and what the tests said last."""
    began = time.monotonic()
    place = maker.make(task, f"{task.name}.{'oracle' if oracle else 'no-op'}")
    said = b""
    try:
        await place.start()
        found: dict[str, Any] = {"start_s": round(time.monotonic() - began, 3)}
        if oracle and task.solution is not None:
            await place.put(task.solution, "/solution")
            ran = await place.run(
                ["bash", "/solution/solve.sh"], timeout_s=task.agent_timeout_s, network=task.network("agent")
            )
            said += ran.output
            found |= {"solution_code": ran.code, "solution_killed": ran.killed, "solution_s": round(ran.wall_s, 1)}
        assert task.verifier.tests is not None
        await place.put(task.verifier.tests, "/tests")
        ran = await place.run(
            task.verifier.command,
            env=task.verifier.env,
            timeout_s=task.verifier.timeout_s,
            network=task.network("verifier"),
            user="root",
        )
        said += b"\n--- tests ---\n" + ran.output
        found |= {"tests_code": ran.code, "tests_killed": ran.killed, "tests_s": round(ran.wall_s, 1)}
        found["reward"] = await reward(place, log.with_suffix(".reward"))
        found["standins"] = list(place.standins)
    finally:
        await place.stop()
        log.write_bytes(said)
    found["total_s"] = round(time.monotonic() - began, 1)
    return found


async def reward(place: Environment, here: Path) -> float | None:
    """Return what the tests gave, None where that is no number."""
    try:
        return float(here.read_text()) if await place.get(REWARD, here) else None
    except ValueError:
        return None
    finally:
        here.unlink(missing_ok=True)


async def check_task(maker: EnvironmentMaker, task: Task, logs: Path) -> dict[str, Any]:
    """Return all that is found out about a task."""
    row: dict[str, Any] = {"digest": task.digest, "fault": ""}
    try:
        row["build_s"] = round(await maker.prepare(task, logs / f"{task.name}.build.log"), 1)
        for name in ("no-op", "oracle"):
            row[name] = await try_task(maker, task, oracle=name == "oracle", log=logs / f"{task.name}.{name}.log")
    except EnvironmentFault as fault:
        row["fault"] = f"{fault.stage}: {fault}"
    row["good"] = not row["fault"] and (row["no-op"]["reward"], row["oracle"]["reward"]) == (0.0, 1.0)
    return row


def table(known: dict[str, Any]) -> str:
    """Return the results as a Markdown table."""
    lines = [
        "| task | build, s | no-op | oracle | no-op trial, s | oracle trial, s |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, row in sorted(known.items()):
        if row["fault"]:
            lines.append(f"| {name} | - | - | - | - | {row['fault'][:100]} |")
            continue
        idle, solved = row["no-op"], row["oracle"]
        values = (row["build_s"], idle["reward"], solved["reward"], idle["total_s"], solved["total_s"])
        lines.append(f"| {name} | " + " | ".join("-" if value is None else f"{value:g}" for value in values) + " |")
    good = sum(row["good"] for row in known.values())
    faults = sum(bool(row["fault"]) for row in known.values())
    lines.append(f"\n{good} of {len(known)} tasks: oracle 1, no-op 0; {faults} could not be run here.")
    return "\n".join(lines)


async def check_all(options: argparse.Namespace, known: dict[str, Any]) -> None:
    """Check the tasks that were asked for, and keep what is found after each."""
    names = options.only or sorted(path.parent.name for path in options.folder.glob("*/task.toml"))
    logs = options.results.with_suffix(".logs")
    logs.mkdir(parents=True, exist_ok=True)
    maker = open_maker(options.environment, options.home)
    waiting = iter([name for name in names if name not in options.skip])

    async def work() -> None:
        for name in waiting:
            task = read_task(options.folder / name)
            row = known.get(name)
            if row and row["digest"] == task.digest and not row["fault"] and not options.again:
                continue
            row = await check_task(maker, task, logs)
            built = row.get("build_s", 0.0)
            if not built and name in known:
                row["build_s"] = known[name].get("build_s", 0.0)
            known[name] = row
            options.results.write_text(json.dumps(known, indent=1, sort_keys=True))
            told = row["fault"] or f"no-op {row['no-op']['reward']}, oracle {row['oracle']['reward']}"
            print(f"{name}: {told} (build {row.get('build_s', 0)} s)", file=sys.stderr, flush=True)

    try:
        await asyncio.gather(*(work() for _ in range(options.jobs)))
    finally:
        await maker.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--skip", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--environment", choices=KINDS, default="auto")
    parser.add_argument("--home", type=Path, default=cache_home(os.environ) / "evals")
    parser.add_argument("--results", type=Path, default=Path("terminal-bench.json"))
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    known = json.loads(options.results.read_text()) if options.results.exists() else {}
    try:
        asyncio.run(check_all(options, known))
    except EnvironmentFault as fault:
        print(fault, file=sys.stderr)
        return 2
    print(json.dumps(known, indent=1, sort_keys=True) if options.json else table(known))
    return 0 if all(row["good"] or row["fault"] for row in known.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
