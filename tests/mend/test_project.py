"""The engine and its worker, speaking with each other."""

from __future__ import annotations

import time
from pathlib import Path

from seeded import MakeProject

from lathe.mend.project import MAX_WAITING, Job, Part, Plan, Project
from lathe.mend.source import SourceFile
from lathe.mend.workspace import find_python, scratch_copy

TESTS = """
import pytest
from area import area

@pytest.mark.parametrize("side", range(300))
def test_area(side):
    assert area(side + 3, 1) == side + 3

def test_sum():
    assert area(2, 3) == 5
"""


def _jobs(root: Path, numbers: range) -> list[Job]:
    source = SourceFile.read(root, "area.py")
    start = source.text.index("+")
    wide = "*" + 400 * " "  # an order of more than a pipe holds
    part = Part("area.py", source.unit(start, start + 1), [(start, start + 1, wide)])
    return [Job(number, [part], 0, 300, again=True) for number in numbers]


def test_neither_waits_for_the_other_to_read(make_project: MakeProject) -> None:
    root = make_project({"area.py": "def area(width, height):\n    return width + height\n", "test_area.py": TESTS})
    until = time.monotonic() + 60
    with (
        scratch_copy(root) as workspace,
        Project(workspace, find_python(root), ["test_area.py"], jobs=1) as project,
    ):
        project.collect(30)
        runs = project.baseline(1.0, until)
        failing = [number for number, run in enumerate(runs) if run.is_failure]
        passing = [number for number, run in enumerate(runs) if not run.is_failure]
        project.begin(dict.fromkeys(range(len(runs)), 1.0), [])
        half = MAX_WAITING // 2
        project.send(_jobs(workspace.root, range(half)), {0: Plan(failing, passing)})
        time.sleep(2)  # a hundred thousand bytes of answers are on their way, and nobody reads
        project.send(_jobs(workspace.root, range(half, 2 * half)), {})
        answered: set[int] = set()
        while len(answered) < 2 * half and time.monotonic() < until:
            answered |= {verdict.id for verdict in project.answers(until) if len(verdict.fixed) == len(failing)}
    assert len(answered) == 2 * half


def test_jobs_that_are_given_up_are_not_answered_and_others_are(make_project: MakeProject) -> None:
    root = make_project({"area.py": "def area(width, height):\n    return width + height\n", "test_area.py": TESTS})
    with (
        scratch_copy(root) as workspace,
        Project(workspace, find_python(root), ["test_area.py"], jobs=2) as project,
    ):
        project.collect(30)
        runs = project.baseline(1.0, time.monotonic() + 60)
        failing = [number for number, run in enumerate(runs) if run.is_failure]
        project.begin(dict.fromkeys(range(len(runs)), 1.0), [])
        project.send(_jobs(workspace.root, range(100)), {0: Plan(failing, [])})
        project.cancel()  # read together with what it is about
        project.send(_jobs(workspace.root, range(100, 101)), {})
        verdicts = project.answers(time.monotonic() + 60)
    assert [(verdict.id, verdict.status) for verdict in verdicts] == [(100, "complete")]
