"""The same tasks through Harbor's own runner and through `lathe eval run`: do both give the same reward?

Each task's own solution and doing nothing are tried once by either. Harbor has containers of Podman, which it builds
itself; Lathe has rooms of bubblewrap. Where the web can't be reached, both are given the same base images, and the same
uv for verifiers that fetch it: Harbor finds that mounted from the beginning, Lathe puts it in after the agent.
What is known of a task is kept after each; the next call goes on from there and tries again what failed of itself.

usage: eval_harbor_agreement.py FOLDER [--check] [--json] [--tasks N] [--only NAME ...] [--harbor PROGRAM]
                                [--home FOLDER] [--work FOLDER]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, TypeAlias

from measuring import table

from lathe.config.paths import cache_home
from lathe.evals.environments.runtime import is_needed, write_script
from lathe.evals.environments.verifying import BIN, aid_for
from lathe.evals.journal import RunFolder

AGENTS = {"oracle": ("oracle", "oracle"), "no-op": ("nop", "noop")}
"""What each is called by Harbor, and by Lathe."""
BARS = {"tasks": 20, "differ": 0}


class Result(NamedTuple):
    """A trial's reward, or why there is none, and how many seconds it took."""

    reward: float | None
    why: str
    seconds: float


class Row(NamedTuple):
    """A line of the table, and whether it tells of a difference."""

    cells: list[str]
    differ: bool | None


Results: TypeAlias = dict[tuple[str, str], Result]
"""By task and agent."""


class Podman:
    """Podman with a storage of its own, so that Harbor's images are not Lathe's; the base images are seen by both."""

    def __init__(self, work: Path, home: Path, harbor: str) -> None:
        self._work = work
        settings = work / "containers"
        settings.mkdir(parents=True, exist_ok=True)
        shared = f'\n[storage.options]\nadditionalimagestores = ["{home / "storage"}"]\n' if home.is_dir() else ""
        own = f'driver = "overlay"\ngraphroot = "{work / "storage"}"\nrunroot = "{work / "run"}"\n'
        (settings / "storage.conf").write_text(f"[storage]\n{own}{shared}")
        engine = '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
        if is_needed():
            script = write_script(settings / "runc")
            engine += f'runtime = "lathe"\n[engine.runtimes]\nlathe = ["{script}"]\n'
        (settings / "containers.conf").write_text(engine)
        self.environment = {
            **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            "CONTAINERS_CONF": str(settings / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(settings / "storage.conf"),
            "BUILDAH_ISOLATION": "chroot",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "PATH": f"{os.environ['PATH']}:{Path(harbor).parent}",
        }

    def mounts(self, job: str, tasks: list[Path], home: Path) -> list[dict[str, str]]:
        """Return what the verifiers of a job's tasks would fetch from the web, as Harbor's mounts."""
        folder = self._work / "aid" / job
        mounted: dict[str, Path] = {}
        for task in tasks:
            aid = asyncio.run(aid_for(task / "tests", home, self._work / "aid.log"))
            if aid.folder is not None:
                shutil.copytree(aid.folder, folder, dirs_exist_ok=True)
                mounted |= {BIN: folder, **{there: here for here, there in aid.mounts}}
            for path, target in aid.links:
                link = folder / Path(path).name
                link.unlink(missing_ok=True)
                link.symlink_to(target)
        return [{"type": "bind", "source": str(here), "target": there} for there, here in mounted.items()]


def run_harbor(options: argparse.Namespace, podman: Podman, names: list[str]) -> None:
    """Run both agents on some tasks by Harbor's own runner, one trial at a time, in one job."""
    job = time.strftime("%Y%m%d-%H%M%S")
    tasks = [options.folder / name for name in names]
    mounts = podman.mounts(job, tasks, options.home)
    config = {
        "job_name": job,
        "jobs_dir": str(options.work / "jobs"),
        "n_concurrent_trials": 1,
        "environment": {"type": "podman", "force_build": True, "mounts": mounts},
        "agents": [{"name": theirs} for theirs, _ in AGENTS.values()],
        "tasks": [{"path": str(task)} for task in tasks],
    }
    (options.work / "job.json").write_text(json.dumps(config))
    with (options.work / f"{job}.log").open("wb") as output:
        subprocess.run(
            [options.harbor, "run", "-c", str(options.work / "job.json"), "-y"],
            cwd=options.work,
            env=podman.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            check=False,
        )


def run_lathe(options: argparse.Namespace, names: list[str]) -> None:
    """Run both agents on some tasks by `lathe eval run`, one trial at a time."""
    link = options.work / "cache" / "lathe" / "evals"
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(options.home)
    for _, ours in AGENTS.values():
        out = options.work / "runs" / f"{time.strftime('%Y%m%d-%H%M%S')}-{ours}"
        command = [sys.executable, "-m", "lathe", "eval", "run", str(options.folder), "--agent", ours]
        command += [word for name in names for word in ("--task", name)]
        command += ["--environment", "rootfs", "--out", str(out), "--jobs", "1", "--quiet"]
        env = {**os.environ, "XDG_CACHE_HOME": str(options.work / "cache")}
        subprocess.run(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False)


def results_of_harbor(work: Path) -> Results:
    """Return what Harbor's jobs came to, a later one over an earlier."""
    agents = {theirs: agent for agent, (theirs, _) in AGENTS.items()}
    found: Results = {}
    for path in sorted((work / "jobs").glob("*/*/result.json")):
        result = json.loads(path.read_text())
        rewards = (result.get("verifier_result") or {}).get("rewards") or {}
        times = [result.get(name) or "" for name in ("started_at", "finished_at")]
        key = (Path(result["config"]["task"]["path"]).name, agents[result["config"]["agent"]["name"]])
        if not all(times) or (key in found and found[key].reward is not None and not rewards):
            continue
        began, ended = (datetime.fromisoformat(one) for one in times)
        why = (result.get("exception_info") or {}).get("exception_type", "")
        found[key] = Result(rewards.get("reward"), why, (ended - began).total_seconds())
    return found


def results_of_lathe(work: Path) -> Results:
    """Return what Lathe's runs came to, a later one over an earlier."""
    agents = {ours: agent for agent, (_, ours) in AGENTS.items()}
    found: Results = {}
    for path in sorted((work / "runs").glob("*")):
        for trial in RunFolder(path).trials():
            key = (trial.task, agents[trial.agent])
            if trial.reward is not None or key not in found:
                found[key] = Result(trial.reward, trial.why, trial.times.total)
    return found


def missing(names: list[str], found: Results) -> list[str]:
    """Return the tasks that are not scored for both agents."""
    none = Result(None, "", 0)
    return [name for name in names if any(found.get((name, agent), none).reward is None for agent in AGENTS)]


def row_of(name: str, harbor: Results, lathe: Results) -> Row:
    """Return a task's line of the table, and whether the two disagree; None where one of them could not run it."""
    none = Result(None, "not run", 0)
    pairs = [(harbor.get((name, agent), none), lathe.get((name, agent), none)) for agent in AGENTS]
    alone = any(one.reward is None for pair in pairs for one in pair)
    differ = None if alone else any(one.reward != other.reward for one, other in pairs)
    told = [f"{one.reward:g}" if one.reward is not None else one.why[:60] or "-" for pair in pairs for one in pair]
    seconds = [f"{sum(pair[number].seconds for pair in pairs):.0f}" for number in (0, 1)]
    return Row([name, *told, {None: "not comparable", True: "no", False: "yes"}[differ], *seconds], differ)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--tasks", type=int, default=0, metavar="N", help="only the first N")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--harbor", default=os.environ.get("LATHE_EVAL_HARBOR") or shutil.which("harbor") or "")
    parser.add_argument("--home", type=Path, default=cache_home(os.environ) / "evals", help="where Lathe's images lie")
    parser.add_argument("--work", type=Path, default=Path(".bench/harbor-agreement"))
    options = parser.parse_args()
    options.folder, options.work = options.folder.absolute(), options.work.absolute()
    options.home.mkdir(parents=True, exist_ok=True)
    options.work.mkdir(parents=True, exist_ok=True)
    if not options.harbor:
        parser.error("There is no harbor on this machine; name one with --harbor (pip install harbor, Python 3.12).")
    names = options.only or sorted(path.parent.name for path in options.folder.glob("*/task.toml"))
    names = names[: options.tasks or None]
    if left := missing(names, results_of_lathe(options.work)):
        run_lathe(options, left)
    if left := missing(names, results_of_harbor(options.work)):
        run_harbor(options, Podman(options.work, options.home, options.harbor), left)
    harbor, lathe = results_of_harbor(options.work), results_of_lathe(options.work)
    rows = [row_of(name, harbor, lathe) for name in sorted({*names, *(name for name, _ in harbor)})]
    figures = {
        "tasks": sum(row.differ is not None for row in rows),
        "differ": sum(row.differ is True for row in rows),
        "not_comparable": sum(row.differ is None for row in rows),
    }
    who = [f"{agent}, {who}" for agent in AGENTS for who in ("Harbor", "Lathe")]
    head = ["task", *who, "same", "Harbor, s", "Lathe, s"]
    if options.json:
        told = [dict(zip(head, row.cells, strict=True)) for row in rows]
        print(json.dumps({"figures": figures, "bars": BARS, "rows": told}, indent=1))
    else:
        print(table(head, [row.cells for row in rows]))
        print(f"\n{figures['tasks']} tasks compared, {figures['differ']} differ; bar: 0 of at least {BARS['tasks']}")
    missed = figures["tasks"] < BARS["tasks"] or figures["differ"] > BARS["differ"]
    return int(options.check and missed)


if __name__ == "__main__":
    sys.exit(main())
