"""`lathe eval`: run an agent on tasks, go on with a run, and see what came of it."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lathe.config.paths import cache_home, lathe_home
from lathe.protocol.errors import UsageError

if TYPE_CHECKING:
    from lathe.evals.access import Access, RunGateway
    from lathe.evals.journal import RunFolder
    from lathe.evals.record import Plan, Trial
    from lathe.evals.task import Dataset, Task


def main(argv: list[str]) -> int:
    """Run `lathe eval` and return its exit code: 1 where a trial of the run ended by a fault."""
    parser = argparse.ArgumentParser(prog="lathe eval", description="Evaluate agents on tasks.", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_run(commands.add_parser("run", help="run an agent on a dataset: lathe eval run DATASET --agent mend"))
    resume = commands.add_parser("resume", help="go on with a run that was stopped")
    resume.add_argument("run", type=Path, help="the run's folder, or its id")
    _add_shared(resume)
    listed = commands.add_parser("list", help="list runs, or the tasks of a dataset")
    listed.add_argument("dataset", nargs="?", help="a dataset, for its tasks")
    listed.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    does: dict[str, Callable[[argparse.Namespace], int]] = {"run": _run, "resume": _resume, "list": _list}
    return does[options.command](options)


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", help="a folder of Harbor tasks, or KIND:PATH (lathe eval list says which)")
    parser.add_argument(
        "--agent", default="lathe", help="lathe, mend, oracle, noop, codex, claude-code, … or script:PATH"
    )
    parser.add_argument("-m", "--model", default="", help="PROVIDER/MODEL; or a gateway's (LATHE_GATEWAY_URL, _KEY)")
    parser.add_argument("-k", "--attempts", type=int, default=1, metavar="K", help="how often each task is tried")
    parser.add_argument("--task", action="append", default=[], metavar="GLOB", help="only tasks whose name fits")
    parser.add_argument("--limit", type=int, default=0, metavar="N", help="only the first N tasks")
    parser.add_argument("--environment", default="auto", choices=["auto", "rootfs", "podman", "docker"])
    parser.add_argument(
        "--retries", type=int, default=2, metavar="N", help="tries again after a fault that is no agent's"
    )
    parser.add_argument(
        "--timeout-factor", type=float, default=1.0, metavar="X", help="more or less time for the agent"
    )
    parser.add_argument("--out", type=Path, help="the run's folder; else below LATHE_HOME")
    _add_shared(parser)


def _add_shared(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-j", "--jobs", type=int, default=0, metavar="N", help="trials at once; else one a processor")
    parser.add_argument("--json", action="store_true", help="print the run's outcome as JSON")
    parser.add_argument("--quiet", action="store_true", help="say nothing while it runs")


def _runs(home: Path) -> Path:
    return home / "evals"


def _run(options: argparse.Namespace) -> int:
    from lathe import __version__
    from lathe.evals.journal import RunFolder, now_ms, wanted
    from lathe.evals.record import Plan
    from lathe.protocol.ids import short_id

    if options.attempts < 1 or options.retries < 0 or options.timeout_factor <= 0:
        raise UsageError("--attempts is 1 or more, --retries 0 or more, and --timeout-factor above 0.")
    dataset = _dataset(options.dataset)
    tasks = _chosen(dataset, options.task, options.limit)
    for name, why in dataset.unread:
        sys.stderr.write(f"lathe: {name} is left out: {why}\n")
    id = short_id("run")
    plan = Plan(
        id=id,
        dataset=_lasting(options.dataset),
        dataset_name=dataset.name,
        dataset_version=dataset.version,
        tasks=tuple((one.name, one.digest) for one in tasks),
        agent=options.agent,
        model=options.model,
        attempts=options.attempts,
        environment=options.environment,
        retries=options.retries,
        timeout_factor=options.timeout_factor,
        lathe=__version__,
        created=now_ms(),
    )
    ids = [one for one, _, _ in wanted(plan)]
    if len(set(ids)) < len(ids):
        raise UsageError("Two tasks of this dataset have names that can't be told apart in names of folders.")
    path = (options.out or _runs(lathe_home(os.environ)) / id).expanduser().absolute()
    return _go(RunFolder.create(path, plan), plan, dataset, options)


def _lasting(spec: str) -> str:
    """Return a dataset's name so that it means the same in another folder."""
    from lathe.evals.formats.known import parsed

    asked = parsed(spec)
    path, query = str(asked.path.absolute()), spec.partition("?")[2]
    return (f"{asked.format}:" if asked.format else "") + path + (f"?{query}" if query else "")


def _dataset(spec: str) -> Dataset:
    from lathe.evals.formats.known import open_dataset

    return open_dataset(spec, made=cache_home(os.environ) / "evals" / "datasets", given=os.environ)


def _chosen(dataset: Dataset, globs: Sequence[str], limit: int) -> list[Task]:
    from fnmatch import fnmatchcase

    tasks = [one for one in dataset.tasks if not globs or any(fnmatchcase(one.name, glob) for glob in globs)]
    if not tasks:
        raise UsageError(f"No task of {dataset.name} is left to run.", hint=f"lathe eval list {dataset.name}")
    return tasks[:limit] if limit else tasks


def _resume(options: argparse.Namespace) -> int:
    folder = _opened(options.run)
    plan = folder.plan()
    return _go(folder, plan, _dataset(plan.dataset), options)


def _opened(named: Path) -> RunFolder:
    """Return the run of a folder or an id."""
    from lathe.evals.journal import RunFolder

    path = named.expanduser()
    if not path.exists() and len(named.parts) == 1:
        path = _runs(lathe_home(os.environ)) / named
    return RunFolder(path.absolute())


def _go(folder: RunFolder, plan: Plan, dataset: Dataset, options: argparse.Namespace) -> int:
    sys.stderr.write(f"lathe: the run is kept in {folder.path}\n")
    try:
        trials = asyncio.run(_working(folder, plan, dataset, options))
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.stderr.write(f"lathe: stopped; `lathe eval resume {folder.path}` goes on.\n")
        return 130
    return _told(plan, trials, as_json=options.json)


async def _working(folder: RunFolder, plan: Plan, dataset: Dataset, options: argparse.Namespace) -> list[Trial]:
    from lathe.evals.agents.known import needs_model, open_agent
    from lathe.evals.environments.maker import open_maker
    from lathe.evals.progress import Progress
    from lathe.evals.run import Runner

    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    cache = cache_home(os.environ) / "evals"
    gateway, access = None, None
    if needs_model(plan.agent):
        gateway, access = await _model(plan.model)
    try:
        agent = open_agent(plan.agent, plan.model, access, cache, os.environ)
        maker = open_maker(plan.environment, cache)
        before = list(folder.state().ended.values())
        total = len(plan.tasks) * plan.attempts
        progress = Progress(total, before, live=False if options.json else None, quiet=options.quiet)
        runner = Runner(folder, {one.name: one for one in dataset.tasks}, agent, maker, progress, jobs=options.jobs)
        try:
            return await runner.run()
        finally:
            progress.close()
    finally:
        if gateway is not None:
            await gateway.close()


async def _model(model: str) -> tuple[RunGateway | None, Access]:
    """Return a gateway that was started (or None) and how it is reached."""
    from lathe.config.layers import load_settings
    from lathe.evals.access import for_model, named

    if not model:
        raise UsageError("This agent asks a model.", hint="Name it with -m PROVIDER/MODEL, or take --agent mend.")
    access = named(os.environ)
    if access is not None:
        return None, access
    settings = load_settings(cwd=Path.cwd()).settings
    gateway = for_model(model, settings.providers, dict(os.environ))
    return gateway, await gateway.start()


def _told(plan: Plan, trials: list[Trial], *, as_json: bool) -> int:
    """Print what came of a run; return its exit code."""
    faults = [one for one in trials if one.verdict == "fault"]
    scored = [one for one in trials if one.reward is not None]
    if as_json:
        import msgspec

        sys.stdout.write(msgspec.json.encode({"plan": plan, "trials": trials}).decode() + "\n")
    else:
        mean = sum(one.reward or 0.0 for one in scored) / len(scored) if scored else 0.0
        passed = sum(one.passed for one in scored)
        sys.stdout.write(f"{plan.dataset_name}: {passed} of {len(scored)} passed, mean reward {mean:.3f}\n")
        for one in faults:
            sys.stdout.write(f"fault: {one.id}: {one.why}\n")
    return 1 if faults or len(trials) < len(plan.tasks) * plan.attempts else 0


def _list(options: argparse.Namespace) -> int:
    if options.dataset:
        return _list_tasks(options.dataset, as_json=options.json)
    from lathe.evals.journal import RunFolder

    rows = []
    root = _runs(lathe_home(os.environ))
    for path in sorted(root.iterdir()) if root.is_dir() else []:
        run = RunFolder(path)
        try:
            plan, trials = run.plan(), run.trials()
        except UsageError:
            continue
        rows.append((plan, trials))
    for plan, trials in sorted(rows, key=lambda one: one[0].created):
        total = len(plan.tasks) * plan.attempts
        scored = [one for one in trials if one.reward is not None]
        mean = sum(one.reward or 0.0 for one in scored) / len(scored) if scored else 0.0
        line = f"{plan.id}  {len(trials)}/{total}  mean {mean:.3f}  {plan.dataset_name}  {plan.agent} {plan.model}"
        sys.stdout.write(line.rstrip() + "\n")
    return 0


def _list_tasks(spec: str, *, as_json: bool) -> int:
    dataset = _dataset(spec)
    for task in dataset.tasks:
        sys.stdout.write(f"{task.name:<40} {task.difficulty:<8} {task.category}".rstrip() + "\n")
    for name, why in dataset.unread:
        sys.stdout.write(f"{name}: not read: {why}\n")
    return 0
