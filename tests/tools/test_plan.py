"""`update_plan` and the decoding of arguments that all tools share."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lathe.protocol.events import TodoEntry, TodoList
from lathe.protocol.items import CustomToolCall, FunctionCall
from lathe.sandbox.policy import SandboxPolicy
from lathe.tools.base import MalformedCall, ToolContext
from lathe.tools.plan import PlanArgs, PlanStep, UpdatePlanTool

CONTEXT = ToolContext(Path("/"), SandboxPolicy(), Path("/"), "item_1", lambda item: None, lambda text: None)
PLAN = {
    "explanation": "first things first",
    "plan": [{"step": "look", "status": "completed"}, {"step": "mend", "status": "in_progress"}, {"step": "test"}],
}


def call(arguments) -> FunctionCall:
    return FunctionCall("c", "update_plan", arguments if isinstance(arguments, str) else json.dumps(arguments))


async def test_a_plan_is_shown_and_kept():
    tool = UpdatePlanTool()
    assert tool.current_plan() == ""
    outcome = await tool.run(tool.parse(call(PLAN)), CONTEXT)
    assert outcome.output == "Plan updated."
    assert outcome.item == TodoList(
        "item_1", (TodoEntry("look", True), TodoEntry("mend", False), TodoEntry("test", False))
    )
    assert tool.current_plan() == "[x] look\n[>] mend\n[ ] test"
    await tool.run(tool.parse(call({"plan": []})), CONTEXT)
    assert tool.current_plan() == ""


async def test_a_resumed_thread_gets_its_plan_back():
    tool = UpdatePlanTool()
    tool.restore(tool.parse(call(PLAN)))
    assert "[>] mend" in tool.current_plan()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({}, "update_plan: `plan` is missing."),
        ({"plan": "all"}, "update_plan: `plan` must be a list, not a string."),
        ({"plan": [{"status": "pending"}]}, "update_plan: `step` of `plan[0]` is missing."),
        ({"plan": [{"step": " "}]}, "update_plan: a step has no text."),
        (
            {"plan": [{"step": "a", "status": "in_progress"}, {"step": "b", "status": "in_progress"}]},
            "update_plan: at most one step may be in_progress.",
        ),
        (
            {"plan": [{"step": "a", "status": "soon"}]},
            "update_plan: Invalid enum value 'soon' - at `plan[0].status`.",
        ),
        ("no json", "The arguments of update_plan are not valid JSON ("),
        ("null", "The arguments of update_plan must be a JSON object."),
        ("[" * 100_000, "The arguments of update_plan are not valid JSON ("),
    ],
)
def test_a_plan_that_makes_no_sense_is_named_in_a_sentence(arguments, sentence):
    with pytest.raises(MalformedCall) as raised:
        UpdatePlanTool().parse(call(arguments))
    assert str(raised.value).startswith(sentence)


@pytest.mark.parametrize(
    "text",
    [
        '{"plan": [{"step": "a"}], "unknown": 1, "explanation": null}',
        json.dumps('{"plan": [{"step": "a"}]}'),
        '```{"plan": []}'[3:].replace("[]", '[{"step": "a"}]'),
    ],
)
def test_the_small_slips_of_models_are_forgiven(text):
    assert UpdatePlanTool().parse(call(text)) == PlanArgs((PlanStep("a"),))


def test_a_raw_line_break_in_a_string_is_forgiven():
    assert UpdatePlanTool().parse(call('{"plan": [{"step": "a\nb"}]}')).plan[0].step == "a\nb"


def test_arguments_may_come_as_the_input_of_a_freeform_call():
    args = UpdatePlanTool().parse(CustomToolCall("c", "update_plan", '{"plan": []}'))
    assert args == PlanArgs(())
