"""mend as a model at its chores: what it calls next, from the thread alone, and whole turns through `lathe exec`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from running import environment, lathe
from seeded import MakeProject, fingerprint, suite

from lathe.mend.chores.outcome import PART, ChoreReport, chore_lines, find_chore_report
from lathe.mend.policy import next_step, reversed_patch
from lathe.mend.report import Failure
from lathe.protocol.errors import UsageError
from lathe.protocol.items import CustomToolCall, FunctionCall, Item, output_for, user_message

PATCH = "*** Begin Patch\n*** Update File: a.py\n@@\n-foo = 1\n+bar = 1\n*** End Patch\n"
UNDO = "*** Begin Patch\n*** Update File: a.py\n@@\n-bar = 1\n+foo = 1\n*** End Patch\n"
DONE = ChoreReport("rename", "done", "foo is now bar.", ("tests: 2",), (), PATCH, UNDO, ("test_a::test_old",), True)
WORDS = "rename function foo to bar"
SUCCESS = "Success. Updated the following files:\nM a.py"


def _after(*outputs: str, words: str = WORDS) -> tuple[list[Item], FunctionCall | CustomToolCall | None, str, bool]:
    """Return the thread, the next call, its words and whether the turn failed, after tools have answered `outputs`."""
    items: list[Item] = [user_message(words)]
    for output in outputs:
        call = next_step(items).call
        assert call is not None
        items += [call, output_for(call, output)]
    step = next_step(items)
    return items, step.call, step.text, step.failed


def _reported(report: ChoreReport | UsageError, status: int = 0) -> str:
    return f"exit {status} · 1.2 s\nsome words\n" + "\n".join(chore_lines(report))


def test_a_chore_goes_from_its_command_to_its_patch_to_the_tests() -> None:
    _, call, said, _ = _after()
    assert isinstance(call, FunctionCall)
    command = json.loads(call.arguments)["cmd"]
    assert command == f"{sys.executable} -m lathe.mend rename foo bar --kind function --time 60"
    assert said
    _, call, _, _ = _after(_reported(DONE))
    assert isinstance(call, CustomToolCall)
    assert (call.name, call.input) == ("apply_patch", PATCH)
    _, call, _, _ = _after(_reported(DONE), SUCCESS)
    assert isinstance(call, FunctionCall)
    assert call.arguments.count("--run-tests") == 1
    _, call, said, failed = _after(_reported(DONE), SUCCESS, "exit 0 · 1 s\n2 passed")
    assert (call, failed) == (None, False)
    assert "foo is now bar." in said


def test_tests_that_failed_before_may_fail_again() -> None:
    known = "exit 1 · 1 s\nFAILED test_a.py::test_old - assert 1 == 2\n1 failed"
    _, call, said, failed = _after(_reported(DONE), SUCCESS, known)
    assert (call, failed) == (None, False)
    assert "and no others" in said


def test_a_change_that_makes_the_tests_worse_is_taken_back() -> None:
    worse = "exit 1 · 1 s\nFAILED test_a.py::test_new - assert 1 == 2\n1 failed"
    _, call, said, _ = _after(_reported(DONE), SUCCESS, worse)
    assert isinstance(call, CustomToolCall)
    assert call.input == UNDO
    assert "test_a.py::test_new" in said
    _, call, said, failed = _after(_reported(DONE), SUCCESS, worse, SUCCESS)
    assert (call, failed) == (None, True)
    assert "taken back" in said


def test_without_tests_the_patch_is_the_last_step() -> None:
    report = ChoreReport("lint", "done", "Laid out.", patch=PATCH, undo=UNDO)
    _, call, said, failed = _after(_reported(report), SUCCESS, words="format the code")
    assert (call, failed) == (None, False)
    assert "Laid out." in said


@pytest.mark.parametrize(
    ("report", "status", "failed"),
    [
        (ChoreReport("rename", "rejected", "It would break 1 test."), 1, True),
        (ChoreReport("lint", "nothing", "ruff finds nothing."), 0, False),
        (ChoreReport("bisect", "done", "abc broke it.", ("line",)), 0, False),
        (UsageError("No symbol foo is defined here.", hint="Near to it: fo."), 2, True),
    ],
)
def test_a_chore_without_a_patch_ends_with_its_words(
    report: ChoreReport | UsageError, status: int, failed: bool
) -> None:
    _, call, said, ended = _after(_reported(report, status))
    assert (call, ended) == (None, failed)
    assert said.startswith(report.summary if isinstance(report, ChoreReport) else report.message)


def test_a_long_report_comes_in_parts_that_are_asked_for_one_by_one() -> None:
    long = ChoreReport("lint", "done", "Much.", patch=PATCH.replace("foo", "f" * 30_000), undo=UNDO)
    lines = chore_lines(long)
    assert len(lines) == 3
    assert all(line.startswith(PART) for line in lines)
    outputs = [f"running, session 7 · 1 s\n{line}\n" for line in lines[:2]]
    for count in (1, 2):
        _, call, _, _ = _after(*outputs[:count])
        assert isinstance(call, FunctionCall)
        arguments = json.loads(call.arguments)
        assert (call.name, arguments["session_id"], arguments["chars"]) == ("write_stdin", 7, "\n")
    _, call, _, _ = _after(*outputs, f"exit 0 · 1 s\n{lines[2]}")
    assert isinstance(call, CustomToolCall)
    assert call.input == long.patch


def test_a_report_with_a_part_missing_is_none() -> None:
    lines = chore_lines(ChoreReport("lint", "done", "x" * 40_000))
    assert find_chore_report(lines[1:]) is None
    assert find_chore_report([f"{PART}1/1 {{broken"]) is None
    assert isinstance(find_chore_report(lines), ChoreReport)
    assert isinstance(find_chore_report(chore_lines(UsageError("no"))), Failure)


def test_an_unclear_wish_does_nothing_and_says_how_to_ask() -> None:
    _, call, said, failed = _after(words="rename it please")
    assert (call, failed) == (None, True)
    assert "rename function foo to bar" in said
    assert "OPENAI_API_KEY" in said


def test_a_patch_can_be_turned_round() -> None:
    assert reversed_patch(PATCH) == UNDO


def test_named_tests_narrow_the_search_and_a_repair_that_breaks_others_is_taken_back() -> None:
    words = "fix test_a.py::test_x in 2 minutes"
    first = "exit 1 · 1 s\nFAILED test_a.py::test_x - assert\nFAILED test_a.py::test_z - assert\n"
    _, call, _, _ = _after(first, words=words)
    assert isinstance(call, FunctionCall)
    assert json.loads(call.arguments)["cmd"].endswith(" -m lathe.mend --time 120 --test test_a.py::test_x")
    counts = {"passed": 0, "failed": 1, "skipped": 0}
    report = {"status": "repaired", "before": counts, "after": counts, "tried": 1, "seconds": 1.0}
    change = {"file": "a.py", "line": 1, "kind": "k", "before": "a", "after": "b", "fixed": ["test_a.py::test_x"]}
    text = json.dumps({**report, "patch": PATCH, "changes": [change], "confirmed": True})
    search = f"exit 0 · 1 s\nlathe-mend-report: {text}"
    _, call, said, failed = _after(first, search, SUCCESS, "exit 1 · 1 s\nFAILED test_a.py::test_z - x\n", words=words)
    assert (call, failed) == (None, False)
    assert "test_a.py::test_x) passes now" in said
    worse = "exit 1 · 1 s\nFAILED test_a.py::test_z - x\nFAILED test_b.py::test_b - x\n"
    _, call, said, _ = _after(first, search, SUCCESS, worse, words=words)
    assert isinstance(call, CustomToolCall)
    assert call.input == UNDO
    assert "test_b.py::test_b" in said


PROJECT = {
    "shop.py": "def total(items):\n    return sum(items)\n",
    "test_shop.py": "from shop import total\n\n\ndef test_total():\n    assert total([1, 2]) == 3\n",
}


async def test_a_rename_through_exec_changes_the_project_and_says_what_shows_it(make_project: MakeProject) -> None:
    project = make_project(PROJECT)
    ran = await lathe("exec", "--json", "-m", "mend", "Rename function total to grand_total", cwd=project, env=_env())
    assert ran.code == 0, ran.err
    assert "def grand_total(items)" in (project / "shop.py").read_text()
    assert suite(project) == 0
    assert len(ran.items("command_execution")) == 2
    assert sorted(change["path"] for change in ran.items("file_change")[0]["changes"]) == ["shop.py", "test_shop.py"]
    assert "3 places in 2 files" in ran.items("agent_message")[-1]["text"]


async def test_a_large_change_through_exec_arrives_whole(make_project: MakeProject) -> None:
    many = "".join(f"x{number} = {{  'a':{number} }}\n" for number in range(1500))
    project = make_project({"a.py": many, "test_a.py": "import a\n\n\ndef test_a():\n    assert a.x7\n"})
    ran = await lathe("exec", "--json", "-m", "mend", "format the code", cwd=project, env=_env())
    assert ran.code == 0, ran.err
    assert 'x1499 = {"a": 1499}\n' in (project / "a.py").read_text()


async def test_what_needs_a_model_through_exec_changes_nothing(make_project: MakeProject) -> None:
    project = make_project(PROJECT)
    before = fingerprint(project)
    ran = await lathe("exec", "-m", "mend", "write a poem", cwd=project, env=_env())
    assert ran.code == 1
    assert "needs a language model" in ran.err
    assert fingerprint(project) == before


def _env() -> dict[str, str]:
    return environment(VIRTUAL_ENV=sys.prefix, PATH=f"{Path(sys.executable).parent}:/usr/bin:/bin")
