"""Function-repair tasks: faulty code, its tests, and the right code, which only the oracle sees.

They need no image: the code is put into a plain environment, with pytest beside it. Only the files that may be mended
are carried over to another, where the verifier lays the code out afresh with them (`repair_grade.py`).
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from lathe.evals.formats import repair_grade
from lathe.evals.formats.made import Maker, script
from lathe.evals.formats.plain_python import PLACE, pytest_folder
from lathe.evals.formats.reading import checked, digest_of, named, tree_of
from lathe.evals.task import EnvironmentSpec, Network, Task, VerifierSpec

FORMAT = "repair 1"
AGENT_S, TESTS_S = 900.0, 120.0

_INSTRUCTION = """\
Tests fail in {workdir}:

    {command}

{failing}The fault is in the code, not in the tests. Find it and mend it: change {where} so that all tests pass. The \
tests are run again as they are now, so a change to them counts for nothing.
"""


class Repair(NamedTuple):
    """One repair. Paths in `program`, `sources`, `tests` and `path` are relative to the tree that the agent gets.

    `program` gives that tree as pairs of path there and file here, `correct` the files that mend it. `sources` are what
    may be changed, `tests` what pytest is given (nothing: all), `path` goes on `PYTHONPATH`.
    """

    name: str
    program: Sequence[tuple[str, Path]]
    correct: Sequence[tuple[str, Path]]
    sources: tuple[str, ...]
    tests: tuple[str, ...]
    path: tuple[str, ...] = ()
    failing: tuple[str, ...] = ()
    seconds: float = TESTS_S
    cluster: str = ""
    source: Path | None = None


def files_in(folder: Path, *, within: Path, omit: Callable[[str], bool] | None = None) -> list[tuple[str, Path]]:
    """Return the files of a folder by the names that they have in it; raise `Unreadable`."""
    found = tree_of(folder, within=within, omit=omit)
    return [(path.relative_to(folder).as_posix(), path) for path in found if path.is_file()]


def repair_task(repair: Repair, dataset: str, made: Maker) -> Task:
    """Return the task of a repair; raise `Unreadable`."""
    name = named(repair.name)
    workdir = f"/work/{name}"
    settings = {
        "format": FORMAT,
        "name": name,
        "sources": repair.sources,
        "tests": repair.tests,
        "path": repair.path,
        "failing": repair.failing,
        "seconds": repair.seconds,
    }
    parts = [(f"program/{there}", here) for there, here in repair.program]
    parts += [(f"correct/{there}", here) for there, here in repair.correct]
    digest = digest_of(settings, [*parts, ("grade.py", Path(repair_grade.__file__))])
    python = pytest_folder(made)
    folder = made.folder(digest, lambda folder: _fill(folder, repair, workdir))
    paths = [PLACE, *(f"{workdir}/{each}" for each in repair.path)]
    command = shlex.join(["python3", "-m", "pytest", *repair.tests])
    failing = f"These fail: {', '.join(repair.failing)}. " if repair.failing else ""
    return Task(
        name=name,
        dataset=dataset,
        digest=digest,
        instruction=_INSTRUCTION.format(
            workdir=workdir, command=command, failing=failing, where=_where(repair.sources)
        ),
        environment=EnvironmentSpec(
            files=((folder / "program", workdir), (python, PLACE)),
            workdir=workdir,
            env={"PYTHONPATH": ":".join(paths), "PYTHONDONTWRITEBYTECODE": "1"},
            network=Network("none"),
        ),
        verifier=VerifierSpec(
            tests=folder / "tests",
            timeout_s=repair.seconds + 120,
            carried=tuple(f"{workdir}/{each}" for each in repair.sources),
        ),
        solution=folder / "solution",
        agent_timeout_s=AGENT_S,
        category="repair",
        cluster=repair.cluster,
        source=repair.source,
    )


def _where(sources: tuple[str, ...]) -> str:
    """Return where the fault may be, in a few words."""
    if len(sources) <= 3:
        return ", ".join(sources)
    return f"the code in {os.path.commonpath(sources) or '.'}"


def _fill(folder: Path, repair: Repair, workdir: str) -> None:
    """Write what the agent gets, what judges it, and what the oracle gets, each into a folder of its own."""
    _lay(folder / "program", repair.program)
    tests, solution = folder / "tests", folder / "solution"
    _lay(tests / "tree", repair.program)
    _lay(solution / "correct", repair.correct)
    shutil.copy(repair_grade.__file__, tests / "grade.py")
    # what mends it counts also where it rules the tests
    ruling = [there for there, _ in repair.correct if repair_grade.rules(PurePosixPath(there).name)]
    sources = [*repair.sources, *(each for each in ruling if each not in repair.sources)]
    spec = {
        "sources": sources,
        "tests": repair.tests,
        "path": repair.path,
        "seconds": repair.seconds,
        "pytest": PLACE,
    }
    (tests / "spec.json").write_text(json.dumps(spec), encoding="utf-8")
    where = shlex.quote(workdir)
    grade = f"exec python3 -I -B /tests/grade.py /tests/spec.json {where} /logs/verifier"
    script(tests / "test.sh", f"#!/bin/bash\n{grade}\n")
    script(solution / "solve.sh", f"#!/bin/bash\nset -e\ncp -R /solution/correct/. {where}/\n")


def _lay(folder: Path, files: Sequence[tuple[str, Path]]) -> None:
    folder.mkdir(parents=True)
    for there, here in files:
        target = checked(folder / there, within=folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(here, target)
        shutil.copymode(here, target)
