"""Repairs that the tests cannot tell apart, compared by running them on more than the tests."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path

import pytest
from seeded import MakeProject, fingerprint

from lathe.mend.agreement import Agreement, distinguish
from lathe.mend.candidates import Candidate
from lathe.mend.operators.registry import Edit
from lathe.mend.project import Plan, Project
from lathe.mend.project import TestRun as Run
from lathe.mend.ranking import rank
from lathe.mend.report import Alternative, Change, RepairReport
from lathe.mend.report import TestCounts as Counts
from lathe.mend.source import SourceFile
from lathe.mend.wording import describe
from lathe.mend.worker.inputs import Call, Mutator, by_hypothesis, typed
from lathe.mend.worker.outcomes import Literals, canonical
from lathe.mend.workspace import Workspace, scratch_copy

CLAMP = """
def clamp(value: int, low: int, high: int) -> int:
    if value < low:
        return low
    if value < high:
        return high
    return value
"""
TEST_CLAMP = """
from clamping import clamp

def test_low():
    assert clamp(-5, 0, 10) == 0

def test_high():
    assert clamp(50, 0, 10) == 10

def test_between():
    assert clamp(5, 0, 10) == 5
"""


class Compared:
    """A project with a worker, in which edits of one place are compared."""

    def __init__(self, project: Project, workspace: Workspace, runs: list[Run], path: str) -> None:
        self.project = project
        self.workspace = workspace
        self.runs = runs
        self.source = SourceFile.read(workspace.root, path)

    def candidates(self, old: str, *new: str) -> list[Candidate]:
        start = self.source.text.index(old)
        line = self.source.text[:start].count("\n") + 1
        failing = [index for index, run in enumerate(self.runs) if run.is_failure]
        plan = Plan(failing, [index for index, run in enumerate(self.runs) if run.outcome == "passed"])
        edits = [Edit(start, start + len(old), text, "test", 2.0, line) for text in new]
        return [Candidate(((self.source, edit),), edit.cost, plan, fixed=failing) for edit in edits]

    def agree(self, old: str, *new: str) -> Agreement:
        return distinguish(self.project, self.candidates(old, *new), self.runs, seconds=2.0)


@contextmanager
def compared(root: Path, path: str) -> Iterator[Compared]:
    with scratch_copy(root) as workspace, Project(workspace, sys.executable, [], jobs=2) as project:
        project.collect(30)
        runs = project.baseline(2.0, time.monotonic() + 30)
        yield Compared(project, workspace, runs, path)


def passes(workspace: Workspace, test: str, edits: list[Candidate]) -> bool:
    """Return whether a ready test passes in a copy with an edit, under a pytest of its own."""
    source, edit = edits[0].changes[0]
    target = workspace.root / source.path
    target.write_text(source.text[: edit.start] + edit.text + source.text[edit.end :])
    question = workspace.root / "test_question.py"
    question.write_text(test)
    command = [sys.executable, "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", question.name]
    try:
        quick = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        return subprocess.run(command, cwd=workspace.root, env=quick, capture_output=True, check=False).returncode == 0
    finally:
        question.unlink()
        target.write_text(source.text)


def test_edits_that_never_differ_are_one_answer_and_a_ready_test_tells_the_others_apart(
    make_project: MakeProject,
) -> None:
    root = make_project({"clamping.py": CLAMP, "test_clamping.py": TEST_CLAMP})
    before = fingerprint(root)
    with compared(root, "clamping.py") as case:
        texts = ("value > high", "not value <= high", "value == 50", "value > high and low == 0")
        agreement = case.agree("value < high", *texts)
        assert sorted(map(sorted, agreement.clusters)) == [[0, 1], [2], [3]]
        assert agreement.clusters[0][0] == 0, "the answer to which two edits lead, in its shorter form"
        assert set(agreement.differences) == {1, 2}
        for place, difference in agreement.differences.items():
            other = texts[agreement.clusters[place][0]]
            assert not difference.test_for_other
            assert passes(case.workspace, difference.test, case.candidates("value < high", "value > high"))
            assert not passes(case.workspace, difference.test, case.candidates("value < high", other))
    assert fingerprint(root) == before


def test_the_same_question_gets_the_same_answer_again(make_project: MakeProject) -> None:
    root = make_project({"clamping.py": CLAMP, "test_clamping.py": TEST_CLAMP})
    with compared(root, "clamping.py") as case:
        first, second = (case.agree("value < high", "value > high", "value == 50") for _ in range(2))
        assert first == second


def test_a_repair_that_leaves_right_answers_alone_comes_before_one_that_does_not(make_project: MakeProject) -> None:
    root = make_project(
        {
            "words.py": """
                def initials(names):
                    letters = []
                    for name in names:
                        letters.append(name[0] if len(name) > 1 else "?")
                    return letters
                """,
            "test_words.py": """
                from words import initials

                def test_several():
                    assert initials(["ann", "bob", "cy"]) == ["a", "b", "c"]

                def test_more():
                    assert initials(["dora", "eve"]) == ["d", "e"]

                def test_empty():
                    assert initials(["fay", ""]) == ["f", "?"]

                def test_single():
                    assert initials(["g"]) == ["g"]
                """,
        }
    )
    with compared(root, "words.py") as case:
        agreement = case.agree(
            'name[0] if len(name) > 1 else "?"', 'name[0] if name else "?"', 'name[0] if len(names) else "?"'
        )
        best = agreement.clusters[0][0]
        assert best == 0
        one, other = agreement.evidence[0], agreement.evidence[1]
        assert one.inputs == other.inputs > 10
        assert (one.kept / one.inputs, one.crashes) > (other.kept / other.inputs, -other.crashes)
        assert other.crashes > 0
        assert "before" in agreement.why or "fails" in agreement.why


def test_methods_and_what_they_leave_behind_are_compared(make_project: MakeProject) -> None:
    root = make_project(
        {
            "basket.py": """
                class Basket:
                    def __init__(self, limit=3):
                        self.limit = limit
                        self.items = []

                    def add(self, item):
                        self.items.insert(0, item)
                        if len(self.items) > self.limit:
                            self.items.pop()
                """,
            "test_basket.py": """
                from basket import Basket

                def test_order():
                    basket = Basket(5)
                    basket.add(1)
                    basket.add(2)
                    assert basket.items == [1, 2]

                def test_one():
                    basket = Basket(2)
                    basket.add("x")
                    assert basket.items == ["x"]
                """,
        }
    )
    with compared(root, "basket.py") as case:
        old, texts = "self.items.insert(0, item)", ("self.items.append(item)", "self.items.insert(1, item)")
        agreement = case.agree(old, *texts)
        assert len(agreement.clusters) == 2
        difference = agreement.differences[1]
        assert "add" in difference.call
        assert difference.first != difference.other
        if difference.test:
            first, second = (texts[agreement.clusters[place][0]] for place in (0, 1))
            right, wrong = (second, first) if difference.test_for_other else (first, second)
            assert passes(case.workspace, difference.test, case.candidates(old, right))
            assert not passes(case.workspace, difference.test, case.candidates(old, wrong))


def test_changed_inputs_write_no_file_start_no_process_and_loops_end(make_project: MakeProject) -> None:
    root = make_project(
        {
            "keeper.py": """
                import os
                import subprocess
                from pathlib import Path

                def keep(name, count):
                    path = Path(name)
                    while count > 20:
                        pass
                    if count > 1:
                        path.write_text("kept")
                        subprocess.run(["true"])
                        os.remove(path)
                    return count - 1
                """,
            "test_keeper.py": """
                from keeper import keep

                def test_keep(tmp_path):
                    assert keep(str(tmp_path / "a"), 1) == 2

                def test_keep_two(tmp_path):
                    assert keep(str(tmp_path / "a"), 2) == 3
                """,
        }
    )
    before = fingerprint(root)
    with compared(root, "keeper.py") as case:
        there = fingerprint(case.workspace.root)
        agreement = case.agree("return count - 1", "return count + 1", "return count + (count > 0)")
        assert fingerprint(case.workspace.root) == there
        assert len(agreement.clusters) == 2
        assert not any("count > 20" in difference.call for difference in agreement.differences.values())
    assert fingerprint(root) == before


def test_what_cannot_be_compared_keeps_its_place_by_cost(make_project: MakeProject) -> None:
    root = make_project(
        {
            "rates.py": "RATE = 2\n\n\ndef total(items):\n    return sum(items) * RATE\n",
            "test_rates.py": "from rates import total\n\n\ndef test_total():\n    assert total([4]) == 12\n",
        }
    )
    with compared(root, "rates.py") as case:
        agreement = case.agree("RATE = 2", "RATE = 3", "RATE = 1 + 2")
        assert len(agreement.clusters) == 2
        assert agreement.differences == {}


def test_ranking_groups_by_tests_and_offers_one_of_each_kind(make_project: MakeProject) -> None:
    root = make_project({"clamping.py": CLAMP, "test_clamping.py": TEST_CLAMP})
    with compared(root, "clamping.py") as case:
        found = case.candidates("value < high", "value == 50", "value > high", "not value <= high")
        now = time.monotonic()
        ranking = rank(case.project, found, case.runs, started=now - 8, deadline=now + 30)
        best = ranking.found[0]
        assert best.changes[0][1].text == "value > high"
        assert [one.changes[0][1].text for one in ranking.others(best)] == ["value == 50"]
        assert ranking.why(best)
        questions = ranking.questions(best, 0, lambda one: one.changes[0][1].text)
        assert [question.other_after for question in questions] == ["value == 50"]
        change = Change(
            "clamping.py", 5, "test", "if value < high:", "if value > high:", ("test_high",), ranking.why(best)
        )
        report = RepairReport(
            "repaired",
            Counts(1, 2, 0),
            Counts(3, 0, 0),
            3,
            1.0,
            changes=(change,),
            alternatives=(Alternative(0, "clamping.py", 5, "test", "if value < high:", "if value == 50:"),),
            questions=questions,
        )
        text = describe(report)
        assert "which is right?" in text
        assert "clamping.clamp(" in text
        assert "chosen, because" in text


# --- inputs and values


class Colour(Enum):
    RED = 1
    BLUE = 2


def test_values_that_behave_alike_have_one_canonical_form() -> None:
    assert canonical(2) == canonical(2.0) != canonical(True)
    assert canonical({1: "a", "b": [2]}) == canonical({"b": [2.0], 1: "a"})
    assert canonical({3, 1, 2}) == canonical({2, 3, 1})
    assert canonical(0.1 + 0.2) == canonical(0.3)
    assert canonical([1]) != canonical((1,))
    assert canonical(iter([1, 2])) == "iterator(1, 2)"
    assert canonical(object()) == canonical(object())
    loop: list[object] = []
    loop.append(loop)
    assert "..." in canonical(loop)


@pytest.mark.parametrize(
    "value",
    [None, True, -3, 1.5, "a'b\n", b"\0", [1, (2,)], {"k": {1, 2}}, frozenset({1}), set(), (), Path("a/b"), Colour.RED],
    ids=repr,
)
def test_literals_make_an_equal_value(value: object) -> None:
    literals = Literals()
    text = literals.write(value)
    assert text is not None
    space = {name.partition(".")[0]: __import__(name.partition(".")[0]) for name in literals.modules}
    space[__name__] = sys.modules[__name__]
    assert eval(text, space) == value


def test_what_has_no_literal_has_none() -> None:
    assert Literals().write(object()) is None
    assert Literals().write([lambda: 1]) is None
    assert Literals().write(list(range(1000))) is None


def test_changed_calls_keep_the_habits_of_the_observed_ones() -> None:
    observed = [
        Call(0, ([1, 2, 5], 3, "abc"), {}, "passing", True, 0),
        Call(0, ([2, 4, 9, 9], 1, "cab"), {}, "failing", True, 0),
    ]
    mutator = Mutator()
    for call in observed:
        for place, value in enumerate(call.positional):
            mutator.observe(value, (0, place))
    made = [call for call in (mutator.call(observed) for _ in range(300)) if call is not None]
    usual = [call for call in made if call.usual]
    assert len(usual) > 150
    for numbers, limit, word in (call.positional for call in usual):
        assert numbers
        assert numbers == sorted(numbers)
        assert all(number > 0 for number in numbers)
        assert limit > 0
        assert word
        assert set(word) <= set("abc")
    assert any(not call.usual for call in made)
    assert {call.origin for call in made} == {"passing", "failing"}
    assert observed[0].positional == ([1, 2, 5], 3, "abc"), "what was observed stays as it was"


def test_annotations_alone_give_inputs_with_and_without_hypothesis() -> None:
    parameters: list[tuple[str, object]] = [("sizes", list[int]), ("name", str | None), ("table", dict[str, float])]
    for calls in (typed(0, parameters, 20), by_hypothesis(0, parameters, 20)):
        assert len({canonical(call.positional) for call in calls}) > 5
        for sizes, name, table in (call.positional for call in calls):
            assert isinstance(sizes, list)
            assert name is None or isinstance(name, str)
            assert isinstance(table, dict)
    assert typed(0, [("x", object)], 5) == []


def test_what_runs_under_the_projects_interpreter_needs_the_standard_library_alone() -> None:
    folder = Path(sys.modules[Call.__module__].__file__ or "").parent
    for name in ("agreement_child", "inputs", "outcomes", "recorder", "rendering", "trials"):
        for node in ast.walk(ast.parse((folder / f"{name}.py").read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                top = node.module.partition(".")[0]
                assert (
                    top in sys.stdlib_module_names
                    or node.module.startswith("lathe.mend.worker.")
                    or top == "hypothesis"
                )
