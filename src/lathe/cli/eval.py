"""`lathe eval`: run an agent on tasks, go on with a run, and see what came of it."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lathe.cli import eval_results
from lathe.cli.eval_results import dataset_of, opened, runs_folder, written
from lathe.config.paths import cache_home
from lathe.protocol.errors import UsageError

if TYPE_CHECKING:
    from lathe.evals.access import Access, RunGateway
    from lathe.evals.journal import RunFolder
    from lathe.evals.record import Plan, Trial
    from lathe.evals.report import Report
    from lathe.evals.task import Dataset, Task


def main(argv: list[str]) -> int:
    """Run `lathe eval` and return its exit code: 1 where a trial of the run ended by a fault."""
    parser = argparse.ArgumentParser(prog="lathe eval", description="Evaluate agents on tasks.", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_run(commands.add_parser("run", help="run an agent on a dataset: lathe eval run DATASET --agent mend"))
    resume = commands.add_parser("resume", help="go on with a run that was stopped")
    resume.add_argument("run", type=Path, help="the run's folder, or its id")
    _add_shared(resume)
    report = commands.add_parser("report", help="write a run's report anew")
    report.add_argument("run", type=Path, help="the run's folder, or its id")
    report.add_argument("--json", action="store_true")
    compare = commands.add_parser("compare", help="put run B beside run A: differences, intervals, exact tests")
    compare.add_argument("a", type=Path)
    compare.add_argument("b", type=Path)
    compare.add_argument("--json", action="store_true")
    compare.add_argument("--markdown", action="store_true")
    audit = commands.add_parser("audit", help="look for shortcuts in trials, and whether tasks can be trusted")
    audit.add_argument("runs", type=Path, nargs="+", metavar="run", help="runs' folders, or their ids")
    audit.add_argument("--standing", action="store_true", help="the four standing checks, from runs of noop, oracle, …")
    audit.add_argument("--json", action="store_true")
    listed = commands.add_parser("list", help="list runs, or the tasks of a dataset")
    listed.add_argument("dataset", nargs="?", help="a dataset, for its tasks")
    listed.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    does: dict[str, Callable[[argparse.Namespace], int]] = {
        "run": _run,
        "resume": _resume,
        "report": eval_results.report,
        "compare": eval_results.compare,
        "audit": eval_results.audit,
        "list": eval_results.listed,
    }
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
    parser.add_argument(
        "--task-env", action="append", default=[], metavar="NAME", help="a variable that tasks may take from here"
    )
    parser.add_argument("--quiet", action="store_true", help="say nothing while it runs")


def _run(options: argparse.Namespace) -> int:
    from lathe import __version__
    from lathe.evals.agents.known import needs_model, open_agent
    from lathe.evals.journal import RunFolder, wanted
    from lathe.evals.record import Plan
    from lathe.protocol.ids import short_id
    from lathe.store.journal import now_ms

    if options.attempts < 1 or options.retries < 0 or options.timeout_factor <= 0:
        raise UsageError("--attempts is 1 or more, --retries 0 or more, and --timeout-factor above 0.")
    dataset = dataset_of(options.dataset, options.task_env)
    tasks = _chosen(dataset, options.task, options.limit)
    cache = cache_home(os.environ) / "evals"
    open_agent(options.agent, options.model, None, cache, os.environ)  # what is wrong with it is said before a run is
    if needs_model(options.agent) and not options.model:
        raise UsageError("This agent asks a model.", hint="Name it with -m PROVIDER/MODEL, or take --agent mend.")
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
    path = (options.out or runs_folder() / id).expanduser().absolute()
    return _go(RunFolder.create(path, plan), plan, dataset, options)


def _lasting(spec: str) -> str:
    """Return a dataset's name so that it means the same in another folder."""
    from lathe.evals.formats.known import parsed

    asked = parsed(spec)
    path, query = str(asked.path.absolute()), spec.partition("?")[2]
    return (f"{asked.format}:" if asked.format else "") + path + (f"?{query}" if query else "")


def _chosen(dataset: Dataset, globs: Sequence[str], limit: int) -> list[Task]:
    from fnmatch import fnmatchcase

    tasks = [one for one in dataset.tasks if not globs or any(fnmatchcase(one.name, glob) for glob in globs)]
    if not tasks:
        raise UsageError(f"No task of {dataset.name} is left to run.", hint=f"lathe eval list {dataset.name}")
    return tasks[:limit] if limit else tasks


def _resume(options: argparse.Namespace) -> int:
    folder = opened(options.run)
    plan = folder.plan()
    return _go(folder, plan, dataset_of(plan.dataset, options.task_env), options)


def _go(folder: RunFolder, plan: Plan, dataset: Dataset, options: argparse.Namespace) -> int:
    sys.stderr.write(f"lathe: the run is kept in {folder.path}\n")
    try:
        trials = asyncio.run(_working(folder, plan, dataset, options))
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.stderr.write(f"lathe: stopped; `lathe eval resume {folder.path}` goes on.\n")
        return 130
    return _told(written(folder, plan, trials), folder.page, as_json=options.json)


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

    access = named(os.environ)
    if access is not None:
        return None, access
    settings = load_settings(cwd=Path.cwd()).settings
    gateway = for_model(model, settings.providers, dict(os.environ))
    return gateway, await gateway.start()


def _told(report: Report, page: Path, *, as_json: bool) -> int:
    """Print what came of a run; return its exit code."""
    if as_json:
        import msgspec

        told = {"plan": report.plan, "trials": report.trials, "summary": report.summary}
        sys.stdout.write(msgspec.json.encode(told).decode() + "\n")
    else:
        for line in _outcome(report):
            sys.stdout.write(line + "\n")
        sys.stdout.write(f"report: {page}\n")
    return 1 if report.missing or any(one.verdict == "fault" for one in report.trials) else 0


def _outcome(report: Report) -> Iterator[str]:
    """Yield what is said of a run on a terminal."""
    from lathe.evals.report.wording import dollars, seconds, share, spread, tokens

    plan, trials, figures = report.plan, report.trials, report.summary
    said = f"{figures.passed} of {figures.scored} trials passed"
    yield f"{plan.dataset_name}: {said}; mean {share(figures.mean)} (95 %: {spread(figures.interval)})"
    for k, estimate in figures.pass_at.items():
        if k > 1:
            every = figures.pass_all[k]
            yield f"pass@{k} {share(estimate.mean)} ({spread(estimate.interval)}); pass^{k} {share(every.mean)}"
    cost = figures.cost
    if cost.requests:
        used = f"{tokens(cost.input_tokens)} tokens in, {tokens(cost.output_tokens)} out"
        yield f"{used}, {dollars(cost.usd)}; agents {seconds(figures.times.agent)}"
    for trial in trials:
        if trial.verdict == "fault":
            yield f"fault: {trial.id}: {trial.why}"
        for flag in trial.flags:
            yield f"flagged: {trial.id}: {flag.kind}: {flag.why}"
    if figures.fallback.count:
        yield f"another model than {plan.model} served part of {figures.fallback.count} trials"
    if standins := sorted({one for trial in trials for one in trial.standins}):
        yield f"stand-ins: {'; '.join(standins)}"
