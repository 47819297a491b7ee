"""mend as a model: what it does next, read from the thread alone."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys

import pytest
from seeded import MakeProject, suite

from lathe.mend.intent import wants_repair
from lathe.mend.policy import MendModel, next_step
from lathe.mend.report import MARKER
from lathe.models.base import Completed, ItemDone, ModelRequest, Transcript
from lathe.protocol.codec import decode_item, encode
from lathe.protocol.items import (
    CustomToolCall,
    FunctionCall,
    Item,
    ToolCall,
    assistant_message,
    developer_message,
    output_for,
    user_message,
)
from lathe.tools.patch_apply import apply_patch

TASK = "Make the failing tests pass"
REPORT = {
    "status": "repaired",
    "before": {"passed": 1, "failed": 1, "skipped": 0},
    "after": {"passed": 2, "failed": 0, "skipped": 0},
    "tried": 12,
    "seconds": 0.8,
    "changes": [
        {
            "file": "calc.py",
            "line": 2,
            "kind": "number",
            "before": "return n * 3",
            "after": "return n * 2",
            "fixed": ["test_calc.py::test_double"],
        }
    ],
    "alternatives": [
        {
            "instead_of": 0,
            "file": "calc.py",
            "line": 2,
            "kind": "arithmetic",
            "before": "return n * 3",
            "after": "return n + n",
        }
    ],
    "patch": "*** Begin Patch\n*** Update File: calc.py\n@@\n-    return n * 3\n+    return n * 2\n*** End Patch\n",
    "confirmed": True,
}
FAILED = "exit 1 · 0.4 s\nFAILED test_calc.py::test_double\n1 failed, 1 passed in 0.10s"
GREEN = "exit 0 · 0.4 s\n..\n2 passed in 0.10s"


class Turn:
    """A thread in which tools answer as told."""

    def __init__(self, words: str = TASK) -> None:
        self.items: list[Item] = [
            developer_message("be good"),
            user_message("<context>\ncwd: /p\n</context>"),
            user_message(words),
        ]

    def call(self) -> ToolCall:
        step = next_step(self.items)
        assert step.call is not None, step.text
        if step.text:
            self.items.append(assistant_message(step.text))
        self.items.append(step.call)
        return step.call

    def answer(self, output: str) -> None:
        call = next(item for item in reversed(self.items) if isinstance(item, FunctionCall | CustomToolCall))
        self.items.append(output_for(call, output))

    def end(self) -> tuple[str, bool]:
        step = next_step(self.items)
        assert step.call is None
        return step.text, step.failed


def _reported(report: object = REPORT, status: int = 0) -> str:
    return f"exit {status} · 1.2 s\n1 of 2 tests fail\n{MARKER}{json.dumps(report)}"


def _arguments(call: ToolCall) -> dict[str, object]:
    assert isinstance(call, FunctionCall)
    arguments: dict[str, object] = json.loads(call.arguments)
    return arguments


@pytest.mark.parametrize(
    "words",
    [
        TASK,
        "make the tests pass",
        "Please fix the failing tests.",
        "The test suite is broken, can you repair it?",
        "get pytest green again",
        "Fix the bugs so that all tests pass",
        "Repair the code until the suite is green, and don't change the tests",
        "fix it",
        "Mend this project",
        "Some tests fail. Please fix the code.",
    ],
)
def test_plain_words_for_a_repair_are_understood(words: str) -> None:
    assert wants_repair(words)


@pytest.mark.parametrize(
    "words",
    [
        "Write a web server",
        "Explain what this project does",
        "Translate the comments",
        "Add tests for the loader",
        "Make the failing tests pass and add a changelog entry",
        "delete the failing tests so that the suite passes",
        "hello",
        "",
    ],
)
async def test_anything_else_is_refused_with_the_way_to_a_model(words: str) -> None:
    assert not wants_repair(words)
    request = ModelRequest("", (), Transcript([user_message(words)]))
    model = MendModel()
    parts = [part async for part in model.stream(request)]
    await model.aclose()
    done = [part.item for part in parts if isinstance(part, ItemDone)]
    assert len(done) == 1
    assert "OPENAI_API_KEY" in encode(done[0]).decode()
    assert isinstance(parts[-1], Completed)
    assert (parts[-1].stop, parts[-1].model) == ("refusal", "mend")
    assert parts[-1].usage.input_tokens == parts[-1].usage.output_tokens == 0


def test_a_turn_goes_from_tests_to_search_to_patch_to_tests() -> None:
    turn = Turn()
    assert str(_arguments(turn.call())["cmd"]).endswith("-m lathe.mend --run-tests")
    turn.answer(FAILED)
    search = _arguments(turn.call())
    assert " -m lathe.mend --time " in str(search["cmd"])
    assert float(str(search["wait_s"])) > 60
    turn.answer(_reported())
    patch = turn.call()
    assert isinstance(patch, CustomToolCall)
    assert (patch.name, patch.input) == ("apply_patch", REPORT["patch"])
    turn.answer("Success. Updated the following files:\nM calc.py")
    assert str(_arguments(turn.call())["cmd"]).endswith("--run-tests")
    turn.answer(GREEN)
    text, failed = turn.end()
    assert not failed
    assert "calc.py:2" in text
    assert "`return n * 3` → `return n * 2`" in text
    assert "test_calc.py::test_double" in text
    assert "return n + n" in text
    assert "1 failed, 1 passed" in text


def test_a_thread_can_be_resumed_at_every_step() -> None:
    turn = Turn()
    for output in (FAILED, _reported(), "Success. Updated the following files:\nM calc.py", GREEN):
        again = [decode_item(encode(item)) for item in turn.items]
        first, second = next_step(turn.items).call, next_step(again).call
        assert first is not None
        assert second is not None
        assert encode(first).replace(first.call_id.encode(), b"") == encode(second).replace(
            second.call_id.encode(), b""
        )
        turn.call()
        turn.answer(output)
        turn.items.append(user_message("<context_change>\nfiles changed\n</context_change>"))
    assert not turn.end()[1]


def test_words_after_a_finished_turn_begin_a_new_one() -> None:
    turn = Turn()
    turn.call()
    turn.answer(GREEN)
    turn.items += [assistant_message("done"), user_message("fix the tests again please")]
    assert str(_arguments(turn.call())["cmd"]).endswith("--run-tests")


def test_a_green_suite_is_left_alone() -> None:
    turn = Turn()
    turn.call()
    turn.answer(GREEN)
    text, failed = turn.end()
    assert not failed
    assert "2 passed" in text


@pytest.mark.parametrize(
    "output",
    [
        "Interrupted by the person before it finished. It may have had part of its effect.",
        "Lathe stopped while this call ran. It may have had part of its effect: look before you repeat it.",
        "Denied by a rule.",
        "killed by signal 9 (SIGKILL) · 3 s",
    ],
)
@pytest.mark.parametrize("before", [[], [FAILED], [FAILED, _reported()]])
def test_a_call_that_was_denied_or_interrupted_ends_the_turn(output: str, before: list[str]) -> None:
    turn = Turn()
    for answer in before:
        turn.call()
        turn.answer(answer)
    turn.call()
    turn.answer(output)
    text, failed = turn.end()
    assert failed
    assert output.split(".")[0] in text


def test_a_command_that_goes_on_is_waited_for() -> None:
    turn = Turn()
    turn.call()
    turn.answer("running, session 7 · 600 s\nsome output")
    wait = turn.call()
    assert isinstance(wait, FunctionCall)
    assert (wait.name, _arguments(wait)["session_id"]) == ("write_stdin", 7)
    turn.answer(FAILED)
    assert " --time " in str(_arguments(turn.call())["cmd"])


def test_what_cannot_be_searched_is_said_in_one_sentence() -> None:
    turn = Turn()
    turn.call()
    turn.answer("exit 5 · 0.2 s\nno tests ran")
    turn.call()
    turn.answer(_reported({"code": "no_tests", "message": "There are no tests here.", "hint": "Write one."}, 2))
    assert turn.end() == ("There are no tests here. Write one.", True)


def test_a_search_without_success_fails_the_turn() -> None:
    turn = Turn()
    turn.call()
    turn.answer(FAILED)
    turn.call()
    report = {**REPORT, "status": "not_repaired", "changes": [], "alternatives": [], "patch": "", "failing": ["test_x"]}
    turn.answer(_reported(report, 1))
    text, failed = turn.end()
    assert failed
    assert "test_x" in text


def test_half_a_repair_is_kept_and_the_turn_fails() -> None:
    turn = Turn()
    outputs = (FAILED, _reported({**REPORT, "status": "improved", "failing": ["test_x"]}, 1), "Success. Done.", FAILED)
    for output in outputs:
        turn.call()
        turn.answer(output)
    text, failed = turn.end()
    assert failed
    assert "not all" in text


def test_the_steps_repair_a_project_for_real(make_project: MakeProject) -> None:
    """The policy's own commands, run as they are, and its own patch."""
    project = make_project(
        {
            "calc.py": "def double(n):\n    return n * 3\n",
            "test_calc.py": "from calc import double\n\n\ndef test_double():\n    assert double(4) == 8\n",
        }
    )
    turn = Turn()
    for _ in range(4):
        call = turn.call()
        if isinstance(call, CustomToolCall):
            turn.answer(apply_patch(call.input, project).summary)
            continue
        command = shlex.split(str(_arguments(call)["cmd"]))
        assert command[0] == sys.executable
        done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
        turn.answer(f"exit {done.returncode} · 1 s\n{done.stdout}{done.stderr}")
    text, failed = turn.end()
    assert not failed, text
    assert "1 failed, 0 passed" in text
    assert suite(project) == 0


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("fix test_double", ""),  # nothing else fails, so the whole suite says where the fault is
        ("make test_calc.py pass", ""),
        ("fix test_calc.py::test_double", ""),
        ("fix test_other", " --test test_other"),
        ("test_double fails. Mend the code so that all tests pass", ""),
        ("fix test_calc.py::test_dou", " --test test_calc.py::test_dou"),
    ],
)
def test_the_search_looks_at_all_tests_unless_others_fail_that_nobody_named(words: str, named: str) -> None:
    turn = Turn(words)
    turn.call()
    turn.answer(FAILED)
    command = str(_arguments(turn.call())["cmd"])
    assert command.partition(" --time 60")[2] == named
