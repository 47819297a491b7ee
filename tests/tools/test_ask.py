"""`ask_user`, with and without somebody to ask."""

from __future__ import annotations

from pathlib import Path

import pytest

from lathe.protocol.items import FunctionCall
from lathe.sandbox.policy import SandboxPolicy
from lathe.tools.ask import AskUserTool
from lathe.tools.base import MalformedCall, ToolContext

CONTEXT = ToolContext(Path("/"), SandboxPolicy(), Path("/"), "item_1", lambda item: None, lambda text: None)
CALL = FunctionCall("c", "ask_user", '{"question": "Which port?", "options": ["80", "8080"]}')


async def test_the_answer_of_the_person_is_the_output():
    asked = []

    async def ask(question, options):
        asked.append((question, options))
        return "8080"

    tool = AskUserTool(ask)
    outcome = await tool.run(tool.parse(CALL), CONTEXT)
    assert asked == [("Which port?", ("80", "8080"))]
    assert outcome.output == "8080"
    assert outcome.item.status == "completed"


async def test_without_an_answer_the_model_decides():
    async def ask(question, options):
        return None

    tool = AskUserTool(ask)
    outcome = await tool.run(tool.parse(CALL), CONTEXT)
    assert "Decide by yourself" in outcome.output
    assert outcome.item.status == "declined"


async def test_in_a_run_without_a_person_the_model_is_told_so():
    tool = AskUserTool()
    outcome = await tool.run(tool.parse(CALL), CONTEXT)
    assert outcome.output.startswith("Nobody can answer in this run.")
    assert outcome.item.status == "failed"


@pytest.mark.parametrize(
    "arguments", ["{}", '{"question": ""}', '{"question": 1}', '{"question": "x", "options": [1]}']
)
def test_a_question_that_is_none_is_malformed(arguments):
    with pytest.raises(MalformedCall, match=r"^ask_user: "):
        AskUserTool().parse(FunctionCall("c", "ask_user", arguments))
