"""SWE-bench rows become tasks that run here, and are graded by its rule."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plainbox import PlainBox

from lathe.evals.formats.made import Maker
from lathe.evals.formats.swebench import read_dataset
from lathe.evals.formats.swebench_grade import END, START, results_of, unresolved
from lathe.evals.task import Task

WRONG = "def area(width, height):\n    return width + height\n"
RIGHT = WRONG.replace("+", "*")
OLD_TEST = "from shapes import area\n\n\ndef test_square():\n    assert area(2, 2) == 4\n"
NEW_TEST = OLD_TEST + "\n\ndef test_oblong():\n    assert area(2, 3) == 6\n"


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    return subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def repository(tmp_path: Path) -> dict[str, Any]:
    """A repository with a faulty commit and its repair; returns the row of that issue."""
    folder = tmp_path / "repos" / "acme__shapes"
    (folder / "tests").mkdir(parents=True)
    git(folder, "init", "-q")
    (folder / "shapes.py").write_text(WRONG)
    (folder / "tests" / "test_shapes.py").write_text(OLD_TEST)
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "one")
    base = git(folder, "rev-parse", "HEAD").strip()
    (folder / "shapes.py").write_text(RIGHT)
    patch = git(folder, "diff")
    git(folder, "commit", "-qam", "the answer")
    (folder / "tests" / "test_shapes.py").write_text(NEW_TEST)
    (folder / "tests" / "test_more.py").write_text("def test_more():\n    assert True\n")
    git(folder, "add", "-N", "-A")
    return {
        "instance_id": "acme__shapes-1",
        "repo": "acme/shapes",
        "base_commit": base,
        "problem_statement": "The area of 2 by 3 is 5.",
        "patch": patch,
        "test_patch": git(folder, "diff", "HEAD"),
        "FAIL_TO_PASS": '["tests/test_shapes.py::test_oblong", "tests/test_more.py::test_more"]',
        "PASS_TO_PASS": ["tests/test_shapes.py::test_square"],
        "test_cmd": "python3 -m pytest -rA -p no:cacheprovider",
        "version": "1.0",
    }


def read(tmp_path: Path, *rows: Any) -> Any:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_dataset(file, repos=str(tmp_path / "repos"), made=Maker(tmp_path / "made"))


def test_an_instance_runs_without_an_image(tmp_path: Path, repository: dict[str, Any]) -> None:
    (task,) = read(tmp_path, repository).tasks
    assert (task.cluster, task.environment.image) == ("acme/shapes", "")
    assert "2 by 3 is 5" in task.instruction

    idle = PlainBox(task, tmp_path / "idle")
    assert idle.reward() == 0.0
    assert "the answer" not in idle.run(["git", "-C", "/testbed", "log", "--all", "--oneline"]).stdout
    assert idle.run(["git", "rev-parse", "HEAD"]).stdout.strip() == repository["base_commit"]

    oracle = PlainBox(task, tmp_path / "oracle")
    oracle.solve()
    assert oracle.reward() == 1.0

    half = PlainBox(task, tmp_path / "half")
    half.at("/testbed/shapes.py").write_text("def area(width, height):\n    return 6\n")
    assert half.reward() == 0.0, "a test that passed before fails"
    report = json.loads(half.at("/logs/verifier/report.json").read_text())
    assert report["unresolved"] == ["tests/test_shapes.py::test_square: FAILED"]


@pytest.mark.parametrize(
    "tampered",
    [
        {"tests/test_shapes.py": "def test_square():\n    pass\n\n\ndef test_oblong():\n    pass\n"},
        {"tests/test_more.py": "raise SystemExit(0)\n"},
        {"shapes.py": "import os\nprint('PASSED tests/test_shapes.py::test_oblong', flush=True)\nos._exit(0)\n"},
    ],
)
def test_tests_are_put_back_before_they_count(
    tmp_path: Path, repository: dict[str, Any], tampered: dict[str, str]
) -> None:
    (task,) = read(tmp_path, repository).tasks
    box = PlainBox(task, tmp_path / "box")
    for name, text in tampered.items():
        box.at(f"/testbed/{name}").write_text(text)
    assert box.reward() == 0.0


def test_a_row_with_a_script_of_its_own_uses_its_image(tmp_path: Path, repository: dict[str, Any]) -> None:
    file = tmp_path / "rows.json"
    script = f"#!/bin/bash\necho '{START}'\npytest -rA\necho '{END}'\n"
    newer = {**repository, "image": "acme/shapes:1", "eval_script": script, "log_parser": "parse_log_flask"}
    plain = {**repository, "instance_id": "acme__shapes-2"}
    file.write_text(json.dumps([newer, plain]))
    one, two = read_dataset(file, made=Maker(tmp_path / "made")).tasks
    assert one.environment.image == "acme/shapes:1"
    assert two.environment.image == "swebench/sweb.eval.x86_64.acme_1776_shapes-2:latest"
    assert _script(one).splitlines()[2:] == [
        "pytest -rA", "code=$?", f"echo '{END}'", 'echo ">>>>> Test Exit Code: $code"',
    ]  # fmt: skip
    assert "git checkout" in _script(two)


def _script(task: Task) -> str:
    assert task.verifier.tests is not None
    return (task.verifier.tests / "run.sh").read_text()


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"patch": None}, "patch is missing"),
    ({"FAIL_TO_PASS": "[unclosed"}, "no JSON"),
    ({"FAIL_TO_PASS": []}, "no test"),
    ({"PASS_TO_PASS": [1]}, "list of tests"),
    ({"base_commit": "--upload-pack=touch /tmp/x"}, "no commit"),
    ({"base_commit": "0" * 40}, "git rev-parse failed"),
    ({"repo": "../../etc"}, "not among"),
    ({"log_parser": "parse_log_gotest"}, "gotest"),
    ({"eval_type": "fail_only"}, "failures only"),
    ({"test_cmd": 3}, "test_cmd"),
    ({"instance_id": "///"}, "no name"),
    ({"patch": "half a pair: \ud800"}, "can't be read"),
    ({"problem_statement": "\udfff"}, "can't be read"),
    ({"repo": "acme/\0"}, "not among"),
]


def test_a_broken_row_never_stops_the_others(tmp_path: Path, repository: dict[str, Any]) -> None:
    rows = [{"instance_id": f"broken-{number}", **change} for number, (change, _) in enumerate(BROKEN)]
    dataset = read(tmp_path, repository, *({**repository, **row} for row in rows), 3, repository)
    assert [task.name for task in dataset.tasks] == ["acme__shapes-1"]
    unread = dict(dataset.unread)
    for number, (change, word) in enumerate(BROKEN):
        assert word in unread[change.get("instance_id", f"broken-{number}")]
    assert "there already" in unread["acme__shapes-1"]
    assert len(unread) == len(BROKEN) + 2


@given(lines=st.lists(st.binary(max_size=60).map(lambda line: line.replace(b"\n", b"")), max_size=6))
def test_any_file_gives_a_dataset_or_a_sentence(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]) -> None:
    from lathe.evals.formats.known import open_dataset
    from lathe.protocol.errors import UsageError

    file = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    file.write_bytes(b"\n".join(lines))
    try:
        dataset = open_dataset(f"swebench:{file}", made=file.parent / "made")
    except UsageError as error:
        assert "UTF-8" in str(error)
    else:
        assert not dataset.tasks and all(why for _, why in dataset.unread)


def told(*lines: str) -> str:
    return "\n".join([START, *lines, END])


@pytest.mark.parametrize(
    ("parser", "output", "results"),
    [
        ("pytest", told("PASSED a.py::t", "FAILED a.py::u - assert 1 == 2", "SKIPPED [1] a.py:3: no"),
         {"a.py::t": "PASSED", "a.py::u": "FAILED"}),
        ("pytest_options", told("PASSED a.py::t[/home/me/x.txt]", "FAILED a.py::u"),
         {"a.py::t[/x.txt]": "PASSED", "a.py::u": "FAILED"}),
        ("pytest_v2", told("\x1b[32mPASSED\x1b[0m a.py::t[a b]", "a.py::old FAILED"),
         {"a.py::t[a b]": "PASSED", "a.py::old": "FAILED"}),
        ("django", told("test_a (m.C) ... ok", "test_b (m.C) ... FAIL", "test_c (m.C) ... noise", "ok",
                        "test_d (m.C) ... skipped 'why'", "ERROR: test_e (m.C)"),
         {"test_a (m.C)": "PASSED", "test_b (m.C)": "FAILED", "test_c (m.C)": "PASSED", "test_d (m.C)": "SKIPPED",
          "test_e": "ERROR"}),
        ("sympy", told("test_a ok", "test_b F", "____ x/test_y.py:test_c ____"),
         {"test_a": "PASSED", "test_b": "FAILED", " x/test_y.py:test_c".strip(): "FAILED"}),
        ("seaborn", told("a.py::t PASSED [ 50%]", "FAILED a.py::u - x"), {"a.py::t": "PASSED", "a.py::u": "FAILED"}),
        ("matplotlib", told("PASSED a.py::t[MouseButton.LEFT]"), {"a.py::t[1]": "PASSED"}),
        ("pytest", told("PASSED a.py::t") + "\n>>>>> Test Exit Code: 1", None),
        ("pytest", told("PASSED a.py::t") + "\n>>>>> Tests Timed Out", None),
        ("pytest", "PASSED a.py::t", None),
        ("pytest", told("nothing ran"), None),
    ],
)  # fmt: skip
def test_results_are_read_as_each_repository_prints_them(
    parser: str, output: str, results: dict[str, str] | None
) -> None:
    assert results_of(output, parser) == results


def test_the_rule_is_that_of_swebench() -> None:
    results = {"a": "PASSED", "b": "XFAIL", "c": "SKIPPED", "d": "FAILED", "p[x-1]": "PASSED", "p[x-2]": "XFAIL"}
    assert unresolved(results, ["a", "b"], ["a", "c"]) == []
    assert unresolved(results, ["c"], ["d", "e"]) == ["c: SKIPPED", "d: FAILED", "e: not run"]
    assert unresolved(results, ["p[x"], []) == [], "a name that was cut off"
