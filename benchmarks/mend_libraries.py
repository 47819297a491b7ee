"""`lathe mend` on seeded bugs in real libraries with their own suites.

The libraries come from PyPI as pinned source packages, the bugs from `seeding.py`, which shares no code with the
engine: 65 of them with the default seed, other seeds give other bugs to develop against. Each is put into a fresh copy
in git, `lathe mend --time 60 --json --jobs 2` runs there as anybody would run it, and `judging.py` says whether the
repair is the original again. Finished bugs are kept in `.bench/mend-libraries/`, so a run that was cut short goes on.

usage: mend_libraries.py [--check] [--json] [--limit N] [--only LIBRARY ...] [--jobs N] [--seed N] [--time S] [--fresh]
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import platform
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import judging
import libraries
import seeding
from faults import written
from libraries import Library
from measuring import median, table
from seeding import Bug

BARS = {"correct": 0.70, "median_s": 30.0, "times_cheaper": 20.0, "bugs": 60, "kinds": 12, "libraries": 6}
PYTEST_SAMPLE = 10  # bugs for which pytest is started afresh, to say what a candidate would cost that way


class Result(NamedTuple):
    """What `lathe mend` made of one bug. `fresh_*` is one `pytest -x` started afresh, where it was measured."""

    name: str
    library: str
    kind: str
    verdict: str
    why: str
    wall: float
    cpu: float
    tried: int
    trial_s: float
    touched: bool
    before: str
    after: str
    repair: list[str]
    fresh_failing_s: float = 0.0
    fresh_suite_s: float = 0.0

    @property
    def correct(self) -> bool:
        return self.verdict in ("exact", "equivalent")

    @property
    def plausible(self) -> bool:
        return self.correct or self.verdict == "plausible only"


class Options(NamedTuple):
    seed: int
    seconds: float
    jobs: int
    lathe: str


class Timed(NamedTuple):
    """What a command wrote, and its seconds of wall and of CPU with all its descendants that were waited for."""

    output: str
    error: str
    wall: float
    cpu: float


def timed(command: list[str], cwd: Path, environment: dict[str, str], *, limit_s: float) -> Timed:
    """Run a command to its end, or for `limit_s` seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    with subprocess.Popen(
        command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, errors="replace", start_new_session=True,
    ) as process:  # fmt: skip
        try:
            output, error = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, error = process.communicate()
    wall = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Timed(output, error.strip()[-600:], wall, cpu)


# --- one bug


def attempt(library: Library, bug: Bug, options: Options, *, sample: bool) -> Result:
    """Put the bug into a copy, let `lathe mend` repair it there, and judge the repair."""
    original = (library.tree / bug.file).read_text(encoding="utf-8")
    with libraries.copy(library, {bug.file: bug.seeded(original)}) as tree:
        _commit(tree)
        environment = libraries.environment(library, tree)
        before = fingerprint(tree)
        command = [options.lathe, "mend", "--time", f"{options.seconds:g}", "--json", "--jobs", str(options.jobs)]
        measured = timed([*command, str(tree)], tree, environment, limit_s=3 * options.seconds + 60)
        touched = fingerprint(tree) != before
        try:
            report = json.loads(measured.output)
        except ValueError:
            report = {"status": "error", "message": measured.error or "it wrote nothing"}
        fresh = _fresh(library, tree, report) if sample else (0.0, 0.0)
        verdict = _verdict(library, tree, report)
    return Result(
        bug.name, bug.library, bug.kind, *verdict, measured.wall, measured.cpu, report.get("tried", 0),
        report.get("trial_seconds", 0.0), touched, bug.before, bug.after,
        [f"{each['file']}:{each['line']} {each['before']} -> {each['after']}" for each in report.get("changes", ())],
        *fresh,
    )  # fmt: skip


def _verdict(library: Library, tree: Path, report: dict[str, Any]) -> judging.Judgement:
    status = report["status"]
    if status == "error":
        return judging.Judgement("error", report["message"])
    if status != "repaired":
        return judging.Judgement("no repair", f"{status}, {report['tried']} tried")
    from lathe.tools.patch_apply import apply_patch

    apply_patch(report["patch"], tree, protected=(".git",))
    files = {each["file"] for each in report["changes"]}
    return judging.judge(library, {file: (tree / file).read_text(encoding="utf-8") for file in sorted(files)})


def _fresh(library: Library, tree: Path, report: dict[str, Any]) -> tuple[float, float]:
    """Return the seconds of CPU that pytest takes from its start to the first failure: of the failing tests, of all."""
    names = list(
        dict.fromkeys(
            [*(name for each in report.get("changes", ()) for name in each["fixed"]), *report.get("failing", ())]
        )
    )
    start = [libraries.python(), "-B", "-m", "pytest", "-q", "-x", "--tb=no", "-p", "no:cacheprovider"]
    environment = libraries.environment(library, tree)
    failing, suite = (timed([*start, *more], tree, environment, limit_s=300).cpu for more in (names[:20], []))
    return failing, suite


def _commit(tree: Path) -> None:
    git = ["git", "-C", str(tree), "-c", "user.name=bench", "-c", "user.email=bench@example.org"]
    for words in (["init", "-q"], ["add", "-A", "-f"], ["commit", "-q", "-m", "as found"]):
        subprocess.run([*git, *words], check=True, capture_output=True)


def fingerprint(tree: Path) -> str:
    """Return a digest of every file, its name and its mode; git's own files aside."""
    digest = hashlib.sha256()
    for path in sorted(tree.rglob("*")):
        if ".git" not in path.relative_to(tree).parts and path.is_file():
            digest.update(repr((str(path.relative_to(tree)), path.stat().st_mode)).encode() + path.read_bytes())
    return digest.hexdigest()


# --- all of them


def seeded(chosen: list[Library], seed: int, limit: int, say: Callable[[str], None]) -> list[Bug]:
    """Return the bugs, the libraries in turn: the first `limit` of them, or all."""
    kinds = seeding.dealt(seed)
    count = len(libraries.LIBRARIES)
    each = -(-limit // len(chosen)) if limit else seeding.TOTAL

    def bugs(library: Library) -> list[Bug]:
        at = libraries.LIBRARIES.index(library)
        found = seeding.Seeder(library, kinds[at::count], seed).bugs(each)
        say(f"{library.name}: {len(found)} bugs seeded")
        return found

    with ThreadPoolExecutor(2) as pool:
        columns = list(pool.map(bugs, chosen))
    found = [bug for row in itertools.zip_longest(*columns) for bug in row if bug is not None]
    return found[:limit] if limit else found


def results(bugs: list[Bug], options: Options, fresh: bool, say: Callable[[str], None]) -> Iterator[Result]:
    """Yield what became of each bug, from disk where it was done before with the same engine and options."""
    folder = seeding.CACHE / f"done-{engine(options)}"
    folder.mkdir(parents=True, exist_ok=True)
    known = {library.name: library for library in libraries.LIBRARIES}
    every = max(1, len(bugs) // PYTEST_SAMPLE)
    for number, bug in enumerate(bugs):
        sample = number % every == 0
        file = folder / f"{hashlib.sha256(repr((bug, sample)).encode()).hexdigest()[:16]}.json"
        if fresh or not file.is_file():
            result = attempt(known[bug.library], bug, options, sample=sample)
            if result.verdict != "error":
                file.write_text(json.dumps(result))
        else:
            result = Result(*json.loads(file.read_text()))
        say(f"{number + 1}/{len(bugs)} {bug.name}: {result.verdict} in {result.wall:.1f} s, {result.tried} tried")
        yield result


def engine(options: Options) -> str:
    """Return a digest of what decides the results: the engine's and the judge's code, and the options."""
    digest = hashlib.sha256(repr((options, platform.python_version())).encode())
    here = Path(__file__).resolve().parent
    for path in (*sorted((libraries.ROOT / "src/lathe/mend").rglob("*.*")), here / "judging.py", here / "replay.py"):
        if path.suffix != ".pyc":
            digest.update(str(path).encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def figures(found: Sequence[Result], jobs: int) -> dict[str, float]:
    """Return what the bars are about. A candidate's seconds are those of the trials, on all cores that they use."""
    tried = max(1, sum(result.tried for result in found))
    sampled = [result for result in found if result.fresh_failing_s]
    everything = sum(result.wall for result in found if result.tried) * jobs / tried
    candidate = sum(result.trial_s for result in found) * jobs / tried
    failing, suite = (
        median([getattr(result, name) for result in sampled]) for name in ("fresh_failing_s", "fresh_suite_s")
    )
    return {
        "bugs": len(found),
        "kinds": len({result.kind for result in found}),
        "libraries": len({result.library for result in found}),
        "plausible": sum(result.plausible for result in found) / len(found),
        "correct": sum(result.correct for result in found) / len(found),
        "median_s": median([result.wall for result in found]),
        "median_correct_s": median([result.wall for result in found if result.correct]),
        "touched": sum(result.touched for result in found),
        "candidate_ms": candidate * 1000,
        "everything_ms": everything * 1000,
        "pytest_failing_ms": failing * 1000,
        "pytest_suite_ms": suite * 1000,
        "times_cheaper": failing / candidate if candidate else float("nan"),
    }


def verdicts(numbers: dict[str, float]) -> dict[str, tuple[float, str, float, bool]]:
    """Return each bar with what was measured, which way it counts, what is asked, and whether it holds."""
    at_least = {
        "bugs": BARS["bugs"], "kinds of bugs": BARS["kinds"], "libraries": BARS["libraries"],
        "correct": BARS["correct"], "times cheaper than pytest afresh": BARS["times_cheaper"],
    }  # fmt: skip
    names = {"kinds of bugs": "kinds", "times cheaper than pytest afresh": "times_cheaper"}
    checks = {}
    for name, bar in at_least.items():
        value = numbers[names.get(name, name)]
        checks[name] = (value, "at least", bar, value >= bar)
    checks["median, s"] = (numbers["median_s"], "under", BARS["median_s"], numbers["median_s"] < BARS["median_s"])
    checks["trees touched without --apply"] = (numbers["touched"], "at most", 0.0, not numbers["touched"])
    return checks


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="exit 1 where a bar is missed")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--limit", type=int, default=0, help="only the first N bugs")
    parser.add_argument("--only", nargs="*", help="only these libraries")
    parser.add_argument("--jobs", type=int, default=2, help="candidates that mend tries at the same time")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--time", type=float, default=60.0, help="mend's budget for a bug")
    parser.add_argument("--fresh", action="store_true", help="forget what is done")
    parser.add_argument("--list", action="store_true", help="show the bugs, and do no more")
    parser.add_argument(
        "--lathe", default=str(Path(sys.executable).with_name("lathe")), help="the command to be measured"
    )
    flags = parser.parse_args()
    chosen = [each for each in libraries.LIBRARIES if not flags.only or each.name in flags.only]
    if not chosen:
        parser.error(f"the libraries are {', '.join(each.name for each in libraries.LIBRARIES)}")

    def say(text: str) -> None:
        if not flags.json:
            print(f"… {text}", file=sys.stderr, flush=True)

    try:
        libraries.prepare(chosen)
        bugs = seeded(chosen, flags.seed, flags.limit, say)
    except (libraries.FetchError, RuntimeError) as error:
        print(f"not measured: {error}", file=sys.stderr)
        return 1
    if flags.list:
        for bug in bugs:
            print(f"{bug.name} ({bug.failing} of {bug.tests} tests fail)\n  - {bug.before}\n  + {bug.after}")
        return 0
    options = Options(flags.seed, flags.time, flags.jobs, flags.lathe)
    found = list(results(bugs, options, flags.fresh, say))
    numbers = figures(found, flags.jobs)
    checks = verdicts(numbers)
    if flags.json:
        print(json.dumps({"at": time.time(), "figures": numbers, "bugs": [result._asdict() for result in found]}))
    else:
        report(found, numbers, checks)
    return 1 if flags.check and not all(holds for *_, holds in checks.values()) else 0


def report(
    found: Sequence[Result], numbers: dict[str, float], checks: dict[str, tuple[float, str, float, bool]]
) -> None:
    columns = ("exact", "equivalent", "plausible only", "not plausible", "no repair", "error")
    for title in ("library", "kind"):
        rows = []
        for name in sorted({getattr(result, title) for result in found}):
            own = [result for result in found if getattr(result, title) == name]
            counts = Counter(result.verdict for result in own)
            rows.append(
                [name, str(len(own)), *(str(counts[each]) for each in columns), f"{median([r.wall for r in own]):.1f}"]
            )
        print(
            table(
                [
                    title,
                    "bugs",
                    "exact",
                    "equivalent",
                    "plausible only",
                    "not plausible",
                    "no repair",
                    "error",
                    "median s",
                ],
                rows,
            )
        )
        print()
    for result in found:
        if not result.correct:
            print(f"{result.name}: {result.verdict}: {result.why}\n  was   {result.before}\n  bug   {result.after}")
            print("".join(f"  mend  {written(each)}\n" for each in result.repair), end="")
    print(
        f"\na candidate costs {numbers['candidate_ms']:.1f} ms (with all else that mend does shared out"
        f" {numbers['everything_ms']:.1f} ms of all cores); pytest afresh {numbers['pytest_failing_ms']:.0f} ms"
        f" for failing tests, {numbers['pytest_suite_ms']:.0f} ms for the suite, up to the first failure\n"
    )
    rows = [
        [name, f"{value:.2f}", f"{way} {bar:.2f}", "ok" if holds else "MISSED"]
        for name, (value, way, bar, holds) in checks.items()
    ]
    print(table(["bar", "measured", "asked", ""], rows))


if __name__ == "__main__":
    os.environ.setdefault("PYTHONHASHSEED", "0")
    sys.exit(main())
