"""Repair sets give tasks that need no image, whose answer the agent never sees and whose tests it can't soften."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from plainbox import PlainBox
from repair_sets import WRONG, one_set, suite

from lathe.evals.formats import functions, quixbugs
from lathe.evals.formats.made import Maker
from lathe.evals.formats.reading import Unreadable
from lathe.evals.task import Task


@pytest.fixture
def gcd(tmp_path: Path) -> Task:
    dataset = quixbugs.read_dataset(suite(tmp_path / "set"), made=Maker(tmp_path / "made"))
    assert [name for name, _ in dataset.unread] == ["half"]
    (task,) = dataset.tasks
    return task


def test_a_program_is_repaired_in_a_plain_place(tmp_path: Path, gcd: Task) -> None:
    box = PlainBox(gcd, tmp_path / "box")
    command = re.search(r"^    (python3 .*)$", gcd.instruction, re.MULTILINE)
    assert command is not None
    shown = box.run(command[1].split())
    assert "2 failed, 1 passed" in shown.stdout, shown.stdout + shown.stderr
    assert box.reward() == 0.0
    box.solve()
    assert box.reward() == 1.0
    assert "3 passed" in box.at("/logs/verifier/pytest.txt").read_text()


def test_the_agent_sees_nothing_of_the_answer(tmp_path: Path, gcd: Task) -> None:
    box = PlainBox(gcd, tmp_path / "box")
    seen = [path.read_text() for path in box.at("/work").rglob("*") if path.is_file()]
    assert WRONG in seen and not any("b, a % b" in text for text in [*seen, gcd.instruction])


@pytest.mark.parametrize(
    "left",
    [
        {"python_testcases/test_gcd.py": "def test_gcd():\n    pass\n"},
        {"conftest.py": "collect_ignore_glob = ['*']\n"},
        {"json_testcases/gcd.json": "[[17, 0], 17]\n"},
        {"python_programs/gcd.py": "import os\nos._exit(0)\n"},
        {"python_programs/gcd.py": "import pytest\npytest.skip('no', allow_module_level=True)\n"},
        {"python_programs/gcd.py": ""},
    ],
)
def test_softened_tests_give_nothing(tmp_path: Path, gcd: Task, left: dict[str, str]) -> None:
    box = PlainBox(gcd, tmp_path / "box")
    for name, text in left.items():
        box.at(f"/work/gcd/{name}").write_text(text)
    assert box.reward() == 0.0


def test_a_program_that_never_ends_is_the_agents_failure(tmp_path: Path) -> None:
    folder = one_set(tmp_path / "set", {"seconds": 2})
    (task,) = functions.read_dataset(folder, made=Maker(tmp_path / "made")).tasks
    box = PlainBox(task, tmp_path / "box")
    box.at("/work/double/src/double.py").write_text("while True:\n    pass\n")
    assert box.reward() == 0.0
    assert "did not end" in box.at("/logs/verifier/report.json").read_text()


def test_a_set_of_ones_own_is_read_and_repaired(tmp_path: Path) -> None:
    dataset = functions.read_dataset(one_set(tmp_path / "set"), made=Maker(tmp_path / "made"))
    assert (dataset.name, dataset.version, dataset.licence) == ("own", "7", "MIT")
    (task,) = dataset.tasks
    assert task.cluster == "numbers" and "test_double.py::test_double" in task.instruction
    box = PlainBox(task, tmp_path / "box")
    assert box.reward() == 0.0
    box.solve()
    assert box.reward() == 1.0


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"sources": ["../up"]}, "no path"),
        ({"tests": ["-p", "evil"]}, "no path"),
        ({"sources": []}, "no sources"),
        ({"sources": ["other"]}, "not among"),
        ({"seconds": 1e9}, "no time"),
        ({"hint": "x"}, "no object of"),
    ],
)
def test_a_broken_task_of_a_set_is_told(tmp_path: Path, change: dict[str, object], word: str) -> None:
    dataset = functions.read_dataset(one_set(tmp_path / "set", change), made=Maker(tmp_path / "made"))
    assert not dataset.tasks
    assert word in dict(dataset.unread)["double"]


def test_what_was_made_is_made_again_where_it_was_cut_short(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "made")

    def fails(folder: Path) -> None:
        (folder / "half").touch()
        raise Unreadable("No.")

    with pytest.raises(Unreadable):
        maker.folder("sha256:abc", fails)
    assert list(maker.home.iterdir()) == []
    (maker.home / "abc" / "files").mkdir(parents=True)
    folder = maker.folder("sha256:abc", lambda folder: (folder / "whole").touch())
    assert (folder / "whole").exists()
    assert maker.folder("sha256:abc", fails) == folder
