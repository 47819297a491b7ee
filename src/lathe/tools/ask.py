"""`ask_user`: a question to the person, where there is one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

import msgspec

from lathe.models.base import ToolSpec
from lathe.protocol.events import OtherToolCall, Status
from lathe.protocol.items import ToolCall
from lathe.tools.arguments import decode_arguments
from lathe.tools.base import Access, MalformedCall, Outcome, ToolContext

Ask: TypeAlias = Callable[[str, tuple[str, ...]], Awaitable[str | None]]
"""Shows a question with its options; returns the answer, or None where the person gave none."""

_SPEC = ToolSpec(
    name="ask_user",
    description=(
        "Ask the person one question that only they can answer and that the work depends on. "
        "They may pick an option or answer in their own words."
    ),
    parameters={
        "type": "object",
        "properties": {
            "question": {"type": "string"},
            "options": {"type": "array", "items": {"type": "string"}, "description": "Answers to choose from."},
        },
        "required": ["question"],
        "additionalProperties": False,
    },
)
_NOBODY = "Nobody can answer in this run. Decide by yourself, and say in the end what you assumed."
_NO_ANSWER = "The person gave no answer. Decide by yourself, and say in the end what you assumed."


class AskArgs(msgspec.Struct, frozen=True):
    question: str
    options: tuple[str, ...] = ()


class AskUserTool:
    """Asks through `ask`; without it (headless runs) the model is told that nobody can answer."""

    spec = _SPEC
    parallel = False

    def __init__(self, ask: Ask | None = None) -> None:
        self._ask = ask

    def parse(self, call: ToolCall) -> AskArgs:
        args = decode_arguments(call, AskArgs)
        if not args.question.strip():
            raise MalformedCall("ask_user: `question` is empty.")
        return args

    def access(self, args: AskArgs, cwd: Path) -> tuple[Access, ...]:
        return ()

    def begin(self, args: AskArgs, item_id: str) -> OtherToolCall:
        return self._item(args, item_id, "in_progress", "")

    async def run(self, args: AskArgs, context: ToolContext) -> Outcome:
        if self._ask is None:
            return Outcome(_NOBODY, self._item(args, context.item_id, "failed", _NOBODY))
        answer = await self._ask(args.question, args.options)
        if answer is None:
            return Outcome(_NO_ANSWER, self._item(args, context.item_id, "declined", ""))
        return Outcome(answer, self._item(args, context.item_id, "completed", answer))

    def _item(self, args: AskArgs, item_id: str, status: Status, result: str) -> OtherToolCall:
        shown = {"question": args.question, "options": list(args.options)}
        return OtherToolCall(id=item_id, tool="ask_user", arguments=shown, status=status, result=result)
