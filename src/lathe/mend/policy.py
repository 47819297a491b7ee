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

from lathe.mend.report import Failure, RepairReport, find_report
from lathe.mend.wording import NEEDS_MODEL, describe, wants_repair
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

SEARCH_S = 60
_WAIT_S = 600
_TESTS = " -m lathe.mend --run-tests"
_SEARCH = " -m lathe.mend --time "
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
    if start < 0 or not wants_repair(text_of(items[start])):
        return Step(NEEDS_MODEL, failed=True)
    done = _calls(items[start + 1 :])
    if not done:
        return Step("I will run the tests, and then search for edits that make the failing ones pass.", _tests())
    output = done[-1][1]
    if output is None:
        return Step("The last call has no result, so I stop here; ask again to go on.", failed=True)
    return _after_call(done, output)


def _after_call(done: Sequence[tuple[ToolCall, str | None]], output: str) -> Step:
    if session := _SESSION.match(output):
        arguments = {"session_id": int(session[1]), "wait_s": _WAIT_S}
        return Step("", FunctionCall(short_id("call"), "write_stdin", json.dumps(arguments)))
    stage = next((_stage(call) for call, _ in reversed(done) if _stage(call)), "")
    stages = [_stage(call) for call, _ in done]
    if stage == "patch":
        return _after_patch(output)
    status = _EXIT.match(output)
    if status is None:
        return Step(f"A step could not be finished, so I stop here: {_first_line(output)}", failed=True)
    if stage == "search":
        return _after_search(output)
    if "patch" in stages:
        return _after_all(done, int(status[1]))
    return _after_tests(int(status[1]), output)


def _after_tests(status: int, output: str) -> Step:
    if status == 0:
        summary = next((line for line in reversed(output.splitlines()) if line.strip()), "")
        return Step(f"Every test passes already, so there is nothing to repair ({summary.strip('= ')}).")
    said = "There may be no tests; I look closer." if status == _NO_TESTS else "Now I search for a repair."
    command = f"{shlex.quote(sys.executable)}{_SEARCH}{SEARCH_S}"
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


def _after_patch(output: str) -> Step:
    if not output.startswith("Success"):
        return Step(f"The repair could not be written, so nothing was changed: {_first_line(output)}", failed=True)
    return Step("", _tests())


def _after_all(done: Sequence[tuple[ToolCall, str | None]], status: int) -> Step:
    reports = (find_report(output) for _, output in done if output is not None)
    report = next((found for found in reports if isinstance(found, RepairReport)), None)
    if report is None:
        return Step("The tests ran, but the report of the search is no longer in this thread.", failed=status != 0)
    text = describe(report)
    if status == 0:
        return Step(f"The tests pass now.\n\n{text}")
    if report.status == "improved":
        return Step(f"Some of the failing tests pass now, but not all.\n\n{text}", failed=True)
    return Step(
        f"The edits are in, but the tests fail here still; they passed in the scratch copy.\n\n{text}", failed=True
    )


def _tests() -> FunctionCall:
    return _command(f"{shlex.quote(sys.executable)}{_TESTS}")


def _command(command: str) -> FunctionCall:
    return FunctionCall(short_id("call"), "exec_command", json.dumps({"cmd": command, "wait_s": _WAIT_S}))


def _stage(call: ToolCall) -> str:
    """Return tests, search or patch; "" for a wait."""
    if isinstance(call, CustomToolCall) or call.name == "apply_patch":
        return "patch"
    return "tests" if _TESTS in call.arguments else "search" if _SEARCH in call.arguments else ""


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
