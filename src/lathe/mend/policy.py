"""mend as a model: from the thread so far to the next step, with the ordinary tools.

The policy keeps nothing between steps. What it did and what came of it is read from the items since the person's last
words, so a thread can be resumed anywhere, and journal, approvals, sandbox and interrupts hold as for any model.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import AsyncIterator, Sequence

import msgspec

from lathe.mend.chores.outcome import PART, ChoreReport, find_chore_report
from lathe.mend.intent import Beyond, Chore, Repair, Unclear, read
from lathe.mend.report import Failure, RepairReport, find_report
from lathe.mend.wording import NEEDS_MODEL, describe, tell, unclear
from lathe.models.base import Completed, ItemDone, ModelPart, ModelRequest, TextDelta
from lathe.protocol.ids import short_id
from lathe.protocol.items import (
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    Item,
    Message,
    ToolCall,
    assistant_message,
    text_of,
)
from lathe.protocol.usage import Usage

_WAIT_S = 600
_MEND = " -m lathe.mend "
_TESTS = f"{_MEND}--run-tests"
_SEARCH = f"{_MEND}--time "
_PART = rf"{re.escape(PART)}\d+/\d+ .*\n"
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+(?:\[[^\]\n]*\])?)", re.MULTILINE)
_PLANS = {
    "rename": "I will rename every place that means it in a scratch copy, and run the tests before and after.",
    "move": "I will move it with all that imports it in a scratch copy, and run the tests before and after.",
    "lint": "I will run ruff with the project's own settings in a scratch copy, and the tests before and after.",
    "types": "I will fix the findings that have just one answer, and keep each fix that makes its finding go.",
    "upgrade": "I will put successors in the place of deprecated names, as far as the tests agree.",
    "bisect": "I will halve the history, in a clone of its own, with the test as the judge.",
    "why": "I cannot explain, but I can show where it points to.",
}
_SESSION = re.compile(r"running, session (\d+)")
_EXIT = re.compile(r"exit (\d+)\b")
_NO_TESTS = 5


class Step(msgspec.Struct, frozen=True):
    """What to do next: say `text`, then make `call`; without a call the turn ends, as a failure with `failed`."""

    text: str = ""
    call: ToolCall | None = None
    failed: bool = False


class MendModel:
    """The embedded engine as a `ModelClient`."""

    def stream(self, request: ModelRequest) -> AsyncIterator[ModelPart]:
        """Yield the next step; never raises. A request beyond mend ends with the stop "refusal"."""
        return _parts(next_step(request.transcript.items))

    async def aclose(self) -> None:
        """Do nothing: there is no connection."""


async def _parts(step: Step) -> AsyncIterator[ModelPart]:
    if step.text:
        yield TextDelta(step.text)
        yield ItemDone(assistant_message(step.text))
    if step.call is not None:
        yield ItemDone(step.call)
    yield Completed(Usage(), model="mend", stop="refusal" if step.failed else "end")


def next_step(items: Sequence[Item]) -> Step:
    """Return what to do after `items`."""
    start = _last_words(items)
    intent = read(text_of(items[start])) if start >= 0 else Beyond()
    if isinstance(intent, Beyond):
        return Step(NEEDS_MODEL, failed=True)
    if isinstance(intent, Unclear):
        return Step(unclear(intent.hint), failed=True)
    done = _calls(items[start + 1 :])
    if not done:
        return _first(intent)
    output = done[-1][1]
    if output is None:
        return Step("The last call has no result, so I stop here; ask again to go on.", failed=True)
    if session := _SESSION.match(output):
        return _wait(int(session[1]), output)
    return _after_call(intent, [(call, said or "") for call, said in done], output)


def _first(intent: Repair | Chore) -> Step:
    if isinstance(intent, Repair):
        return Step("I will run the tests, and then search for edits that make the failing ones pass.", _tests())
    said = _PLANS[intent.argv[0]]
    words = " ".join(shlex.quote(word) for word in intent.argv)
    command = f"{shlex.quote(sys.executable)}{_MEND}{words} --time {intent.seconds}"
    return Step(said, _command(command, until=_PART))


def _wait(session: int, output: str) -> Step:
    """Go on with a command: for the next part of a report it waits for a line."""
    arguments: dict[str, object] = {"session_id": session, "wait_s": _WAIT_S, "until": _PART}
    if any(line.startswith(PART) for line in output.splitlines()):
        arguments["chars"] = "\n"
    return Step("", FunctionCall(short_id("call"), "write_stdin", json.dumps(arguments)))


def _after_call(intent: Repair | Chore, done: Sequence[tuple[ToolCall, str]], output: str) -> Step:
    stages = [stage for call, _ in done if (stage := _stage(call))]
    if stages[-1] == "patch":
        return _after_patch(intent, done, output)
    status = _EXIT.match(output)
    if status is None:
        return Step(f"A step could not be finished, so I stop here: {_first_line(output)}", failed=True)
    if stages[-1] == "search":
        return _after_search(output)
    if stages[-1] == "chore":
        return _after_chore(done)
    if "patch" not in stages:
        return _after_tests(intent, int(status[1]), output)
    if isinstance(intent, Chore):
        return _after_chore_tests(done, int(status[1]), output)
    return _after_all(intent, done, int(status[1]), output)


# --- a chore: the command, its patch, the tests again


def _after_chore(done: Sequence[tuple[ToolCall, str]]) -> Step:
    report = _chore_report(done)
    if isinstance(report, Failure):
        return Step(f"{report.message} {report.hint}".strip(), failed=True)
    if report is None:
        return Step(
            f"The command ended without a report: {_first_line(done[-1][1].partition(chr(10))[2])}", failed=True
        )
    if not report.patch:
        return Step(tell(report), failed=report.status == "rejected")
    return Step(f"{report.summary} I put it in.", CustomToolCall(short_id("call"), "apply_patch", report.patch))


def _after_chore_tests(done: Sequence[tuple[ToolCall, str]], status: int, output: str) -> Step:
    report = _chore_report(done)
    if not isinstance(report, ChoreReport):
        return Step("The tests ran, but the report of the chore is no longer in this thread.", failed=status != 0)
    known = {_test_name(name) for name in report.failing}
    broken = [name for name in _failed_tests(output) if _test_name(name) not in known]
    if status in (0, _NO_TESTS) or (report.failing and not broken):
        again = "The tests pass." if status == 0 else "The tests that failed before still fail, and no others."
        return Step(f"{tell(report)}\n\n{again}")
    named = ", ".join(broken[:5]) or f"pytest ended with status {status}"
    said = f"The tests are worse here than they were in the scratch copy ({named}), so I take the change back."
    return Step(said, CustomToolCall(short_id("call"), "apply_patch", report.undo))


def _chore_report(done: Sequence[tuple[ToolCall, str]]) -> ChoreReport | Failure | None:
    """Return the report of the chore's command, from its first output and those of the waits after it."""
    outputs = []
    for call, output in done:
        stage = _stage(call)
        if stage == "chore":
            outputs = [output]
        elif not stage and outputs:
            outputs.append(output)
        elif stage:
            break
    return find_chore_report(outputs)


# --- a repair: the tests, the search, its patch, the tests again


def _after_tests(intent: Repair | Chore, status: int, output: str) -> Step:
    if status == 0:
        summary = next((line for line in reversed(output.splitlines()) if line.strip()), "")
        return Step(f"Every test passes already, so there is nothing to repair ({summary.strip('= ')}).")
    said = "There may be no tests; I look closer." if status == _NO_TESTS else "Now I search for a repair."
    command = f"{shlex.quote(sys.executable)}{_SEARCH}{intent.seconds}"
    named = intent.tests if isinstance(intent, Repair) else ()
    failing = _failed_tests(output)
    if failing and all(any(_is_of(test, name) for name in named) for test in failing):
        named = ()  # the tests that pass say where the fault is not, and what a repair must not break
    for test in named:
        command += f" --test {shlex.quote(test)}"
    return Step(said, _command(command))


def _after_search(output: str) -> Step:
    report = find_report(output)
    if isinstance(report, Failure):
        return Step(f"{report.message} {report.hint}".strip(), failed=True)
    if report is None:
        return Step(f"The search ended without a report: {_first_line(output.partition(chr(10))[2])}", failed=True)
    if report.status == "already_green":
        return Step("Every test passes in a fresh copy of the project, so there is nothing to repair.")
    if not report.patch:
        return Step(
            f"I found no edit that makes a failing test pass and breaks none.\n\n{describe(report)}", failed=True
        )
    count = len(report.changes)
    said = f"I found {'an edit' if count == 1 else f'{count} edits'} that the tests agree with, and put them in."
    return Step(said, CustomToolCall(short_id("call"), "apply_patch", report.patch))


def _after_patch(intent: Repair | Chore, done: Sequence[tuple[ToolCall, str]], output: str) -> Step:
    patches = [call for call, _ in done if _stage(call) == "patch"]
    if len(patches) > 1:
        if output.startswith("Success"):
            return Step("The change is taken back: it broke tests here that passed in the scratch copy.", failed=True)
        return Step(f"The change broke tests and could not be taken back: {_first_line(output)}", failed=True)
    if not output.startswith("Success"):
        return Step(f"The change could not be written, so nothing was changed: {_first_line(output)}", failed=True)
    if isinstance(intent, Chore):
        report = _chore_report(done)
        if isinstance(report, ChoreReport) and not report.tested:
            return Step(tell(report))
    return Step("", _tests())


def _after_all(intent: Repair | Chore, done: Sequence[tuple[ToolCall, str]], status: int, output: str) -> Step:
    reports = (find_report(said) for _, said in done)
    report = next((found for found in reports if isinstance(found, RepairReport)), None)
    if report is None:
        return Step("The tests ran, but the report of the search is no longer in this thread.", failed=status != 0)
    text = describe(report)
    if status == 0:
        return Step(f"The tests pass now.\n\n{text}")
    if isinstance(intent, Repair) and intent.tests:
        return _after_some(intent, done, report, output)
    if report.status == "improved":
        return Step(f"Some of the failing tests pass now, but not all.\n\n{text}", failed=True)
    return Step(
        f"The edits are in, but the tests fail here still; they passed in the scratch copy.\n\n{text}", failed=True
    )


def _after_some(intent: Repair, done: Sequence[tuple[ToolCall, str]], report: RepairReport, output: str) -> Step:
    """Say what became of the tests that were asked for; the search did not look at the others, so look at those now."""
    first = next(said for call, said in done if _stage(call) == "tests")
    broken = sorted(set(_failed_tests(output)) - set(_failed_tests(first)))
    if broken:
        said = f"That repair breaks other tests ({', '.join(broken[:5])}), so I take it back."
        return Step(said, CustomToolCall(short_id("call"), "apply_patch", reversed_patch(report.patch)))
    named = ", ".join(intent.tests)
    others = len(_failed_tests(output))
    if report.status == "repaired":
        beside = f"{others} others fail as they did before" if others else "others fail as they did before"
        return Step(f"What you named ({named}) passes now; {beside}.\n\n{describe(report)}")
    return Step(f"Some of what you named ({named}) passes now, but not all.\n\n{describe(report)}", failed=True)


def reversed_patch(patch: str) -> str:
    """Return the patch that takes `patch`, which only updates files, back."""
    lines: list[str] = []
    plus: list[str] = []
    for line in patch.splitlines():
        if line.startswith("-"):
            plus.append(f"+{line[1:]}")
        elif line.startswith("+"):
            lines.append(f"-{line[1:]}")
        else:
            lines += plus
            plus = []
            lines.append(line)
    return "\n".join(lines) + "\n"


def _failed_tests(output: str) -> list[str]:
    """Return the tests that pytest's summary calls failed."""
    return _FAILED.findall(output)


def _is_of(test: str, name: str) -> bool:
    """Say whether a test is the one of that name, or one of that file, class or function."""
    return test == name or test.startswith((f"{name}::", f"{name}[")) or test.partition("[")[0].endswith(f"::{name}")


def _test_name(name: str) -> str:
    """Return a test's name in a form that JUnit's dotted one and pytest's path have in common."""
    head, _, last = name.rpartition("::")
    return f"{head.replace('.py', '').replace('/', '.').replace('::', '.')}.{last}"


def _tests() -> FunctionCall:
    return _command(f"{shlex.quote(sys.executable)}{_TESTS}")


def _command(command: str, until: str = "") -> FunctionCall:
    """Return the call; with `until`, of a command that may wait for a line of input where it says that."""
    arguments: dict[str, object] = {"cmd": command, "wait_s": _WAIT_S}
    if until:
        arguments |= {"stdin": True, "until": until}
    return FunctionCall(short_id("call"), "exec_command", json.dumps(arguments))


def _stage(call: ToolCall) -> str:
    """Return tests, search, chore or patch; "" for a wait."""
    if isinstance(call, CustomToolCall) or call.name == "apply_patch":
        return "patch"
    if _TESTS in call.arguments:
        return "tests"
    if _SEARCH in call.arguments:
        return "search"
    return "chore" if _MEND in call.arguments else ""


def _last_words(items: Sequence[Item]) -> int:
    """Return the index of the person's last message; -1 where there is none. What Lathe tells begins with <context."""
    for index in range(len(items) - 1, -1, -1):
        item = items[index]
        if isinstance(item, Message) and item.role == "user" and not text_of(item).lstrip().startswith("<context"):
            return index
    return -1


def _calls(items: Sequence[Item]) -> list[tuple[ToolCall, str | None]]:
    """Return the calls with their outputs, None for one without."""
    outputs = {
        item.call_id: text_of(item) for item in items if isinstance(item, (FunctionCallOutput, CustomToolCallOutput))
    }
    return [(item, outputs.get(item.call_id)) for item in items if isinstance(item, (FunctionCall, CustomToolCall))]


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "it said nothing")
