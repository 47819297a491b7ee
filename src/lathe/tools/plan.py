"""`update_plan`: the model's own list of steps, shown to the person and kept over a compaction."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from lathe.models.base import ToolSpec
from lathe.protocol.events import TodoEntry, TodoList
from lathe.protocol.items import ToolCall
from lathe.tools.arguments import decode_arguments
from lathe.tools.base import Access, MalformedCall, Outcome, ToolContext

_SPEC = ToolSpec(
    name="update_plan",
    description=(
        "Keep a short plan of the task, for work of several steps. Send the whole plan each time; "
        "at most one step is in_progress."
    ),
    parameters={
        "type": "object",
        "properties": {
            "explanation": {"type": "string", "description": "Why the plan changed."},
            "plan": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "step": {"type": "string"},
                        "status": {"type": "string", "enum": ["pending", "in_progress", "completed"]},
                    },
                    "required": ["step", "status"],
                    "additionalProperties": False,
                },
            },
        },
        "required": ["plan"],
        "additionalProperties": False,
    },
)
_MARKS = {"pending": "[ ]", "in_progress": "[>]", "completed": "[x]"}


class PlanStep(msgspec.Struct, frozen=True):
    step: str
    status: Literal["pending", "in_progress", "completed"] = "pending"


class PlanArgs(msgspec.Struct, frozen=True):
    plan: tuple[PlanStep, ...]
    explanation: str = ""


class UpdatePlanTool:
    """The plan of one thread; the last one sent counts."""

    spec = _SPEC
    parallel = False

    def __init__(self) -> None:
        self._plan: tuple[PlanStep, ...] = ()

    def current_plan(self) -> str:
        """Return the plan, one step a line with its mark, or "" where there is none."""
        return "\n".join(f"{_MARKS[entry.status]} {entry.step}" for entry in self._plan)

    def restore(self, args: PlanArgs) -> None:
        """Take `args` of an earlier call as the plan, when a thread is resumed."""
        self._plan = args.plan

    def parse(self, call: ToolCall) -> PlanArgs:
        args = decode_arguments(call, PlanArgs)
        if sum(entry.status == "in_progress" for entry in args.plan) > 1:
            raise MalformedCall("update_plan: at most one step may be in_progress.")
        if not all(entry.step.strip() for entry in args.plan):
            raise MalformedCall("update_plan: a step has no text.")
        return args

    def access(self, args: PlanArgs, cwd: Path) -> tuple[Access, ...]:
        return ()

    def begin(self, args: PlanArgs, item_id: str) -> TodoList:
        entries = tuple(TodoEntry(text=entry.step, completed=entry.status == "completed") for entry in args.plan)
        return TodoList(id=item_id, items=entries)

    async def run(self, args: PlanArgs, context: ToolContext) -> Outcome:
        self.restore(args)
        return Outcome("Plan updated.", self.begin(args, context.item_id))
