"""Bisecting in a clone: the commit is found, and the person's repository is as it was."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from seeded import MakeProject, fingerprint

from lathe.mend.chores.bisect import bisect
from lathe.mend.chores.why import why
from lathe.protocol.errors import UsageError

TEST = "from shapes import area\n\n\ndef test_area():\n    assert area(3, 4) == 12\n\n\n"
TEST += "def test_other():\n    assert True\n"


def _git(root: Path, *words: str) -> str:
    identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    done = subprocess.run(["git", "-C", str(root), *identity, *words], check=True, capture_output=True, text=True)
    return done.stdout


@pytest.fixture
def history(tmp_path: Path) -> Path:
    """Ten commits: the seventh breaks `test_area`, in the fifth nothing can be imported, the third is tagged v1."""
    root = tmp_path / "shapes"
    root.mkdir()
    _git(root, "init", "-q")
    for number in range(1, 11):
        broken = "import nothing_here\n" if number == 5 else ""
        sign = "+" if number >= 7 else "*"
        (root / "shapes.py").write_text(f"{broken}def area(w, h):\n    return w {sign} h\n\n\n# {number}\n")
        if number >= 4:
            (root / "test_shapes.py").write_text(TEST)
        _git(root, "add", "-A")
        _git(root, "commit", "-q", "-m", f"Change number {number}")
        if number == 3:
            _git(root, "tag", "v1")
    return root


def _state(root: Path) -> tuple[object, ...]:
    refs = _git(root, "for-each-ref")
    return fingerprint(root), refs, _git(root, "status", "--short"), _git(root, "rev-parse", "--abbrev-ref", "HEAD")


def test_the_commit_that_broke_a_test_is_found_and_nothing_is_touched(history: Path) -> None:
    (history / "shapes.py").write_text("# not committed\n")
    before = _state(history)
    report = bisect(history, "test_shapes.py::test_area", "v1", 60)
    assert _state(history) == before
    assert report.status == "done"
    assert "Change number 7 broke test_shapes.py::test_area" in report.summary
    assert "    Change number 7" in report.evidence
    assert "+    return w + h" in report.evidence
    assert not any("test_shapes.py b/" in line for line in report.evidence)
    tried = [line for line in report.evidence if line.endswith((": good", ": bad", ": skip"))]
    assert 3 <= len(tried) <= 6, "the end that is known good, and log2 of what lies between"


def test_without_a_good_commit_one_is_looked_for(history: Path) -> None:
    assert "Change number 7" in bisect(history, "test_area", "", 60).summary


def test_commits_that_cannot_be_judged_are_named_as_suspects(history: Path) -> None:
    for number, text in ((11, "import nothing_here\n"), (12, "def area(w, h):\n    return 0\n")):
        (history / "shapes.py").write_text(text)
        _git(history, "commit", "-q", "-am", f"Change number {number}")
    (history / "shapes.py").write_text("def area(w, h):\n    return w * h\n")
    _git(history, "commit", "-q", "-am", "Right again")
    _git(history, "tag", "right")
    (history / "shapes.py").write_text("import nothing_here\n")
    _git(history, "commit", "-q", "-am", "Cannot be imported")
    (history / "shapes.py").write_text("def area(w, h):\n    return 1\n")
    _git(history, "commit", "-q", "-am", "Wrong")
    report = bisect(history, "test_area", "right", 60)
    assert report.status == "rejected"
    assert "One of 2 commits" in report.summary
    assert len(report.left) == 2


@pytest.mark.parametrize(
    ("test", "good", "said"),
    [
        ("test_other", "v1", "passes in the last commit"),
        ("test_area", "v9", "There is no commit, tag or branch v9 here. Tags: v1."),
        ("test_area", "HEAD~1", "fails at HEAD~1 already"),
        ("test_nowhere", "", "No test test_nowhere is found"),
        ("nowhere.py::test_area", "", "There is no file nowhere.py"),
    ],
)
def test_what_cannot_be_bisected_is_said_in_one_sentence(history: Path, test: str, good: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        bisect(history, test, good, 60)
    assert said in str(caught.value)


def test_a_folder_without_git_has_no_history(make_project: MakeProject) -> None:
    with pytest.raises(UsageError) as caught:
        bisect(make_project({"test_a.py": TEST}, git=False), "test_a", "", 60)
    assert "no git repository" in str(caught.value)


def test_where_a_failure_points_to_is_shown_as_evidence(make_project: MakeProject) -> None:
    code = "def area(w, h):\n    if w < 0:\n        return 0\n    return w + h\n"
    project = make_project({"shapes.py": code, "test_shapes.py": TEST})
    report = why(project, ["test_area"], 30)
    assert report.status == "done"
    assert any(line.startswith("test_shapes.py::test_area: AssertionError") for line in report.evidence)
    assert any("shapes.py:4: return w + h" in line for line in report.evidence)
    assert why(project, ["test_other"], 30).status == "nothing"
