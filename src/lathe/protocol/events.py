"""Events: what a turn says to its listener.

The names and fields of `thread.*`, `turn.*`, `item.*` and `error` are those of `codex exec --json`, so what
reads one reads the other. Lathe adds `step.retry`, `call.rejected`, `context.compacted`, `input.steered`,
`guard.decided`, `model.served` and, for listeners that ask for it, `item.delta`; the fields it adds to shared events
come after the shared ones.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

from lathe.protocol.usage import Usage

Status: TypeAlias = Literal["in_progress", "completed", "failed", "declined", "interrupted"]


class AgentMessage(msgspec.Struct, frozen=True, tag="agent_message", tag_field="type"):
    id: str
    text: str


class ReasoningSummary(msgspec.Struct, frozen=True, tag="reasoning", tag_field="type"):
    id: str
    text: str


class Connection(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a command connected to, or wished to: whether it was let, and why; `method` where requests are seen."""

    host: str
    port: int
    allowed: bool
    reason: str
    program: str = ""
    method: str = ""


class CommandExecution(msgspec.Struct, frozen=True, omit_defaults=True, tag="command_execution", tag_field="type"):
    """A command; `aggregated_output` is what the model was shown, the whole lies at `output_path`.

    `connections` are those since the last report on it, each kind once.
    """

    id: str
    command: str
    aggregated_output: str
    exit_code: int | None
    status: Status
    session_id: int | None = None
    wall_ms: float | None = None
    output_path: str | None = None
    connections: tuple[Connection, ...] = ()


class FileUpdate(msgspec.Struct, frozen=True, omit_defaults=True):
    path: str
    kind: Literal["add", "delete", "update"]
    move_to: str | None = None


class FileChange(msgspec.Struct, frozen=True, omit_defaults=True, tag="file_change", tag_field="type"):
    """Files that a patch changed; `diff` is a unified diff of them."""

    id: str
    changes: tuple[FileUpdate, ...]
    status: Status
    diff: str = ""
    error: str = ""


class McpToolCall(msgspec.Struct, frozen=True, omit_defaults=True, tag="mcp_tool_call", tag_field="type"):
    id: str
    server: str
    tool: str
    arguments: Any
    status: Status
    result: Any = None
    error: dict[str, str] | None = None


class OtherToolCall(msgspec.Struct, frozen=True, omit_defaults=True, tag="tool_call", tag_field="type"):
    """A tool with no item type of its own (`view_image`, `ask_user`, tool search)."""

    id: str
    tool: str
    arguments: Any
    status: Status
    result: str = ""


class TodoEntry(msgspec.Struct, frozen=True):
    text: str
    completed: bool


class TodoList(msgspec.Struct, frozen=True, tag="todo_list", tag_field="type"):
    id: str
    items: tuple[TodoEntry, ...]


class ErrorItem(msgspec.Struct, frozen=True, tag="error", tag_field="type"):
    """Something that went wrong without ending the turn."""

    id: str
    message: str


ShownItem: TypeAlias = (
    AgentMessage | ReasoningSummary | CommandExecution | FileChange | McpToolCall | OtherToolCall | TodoList | ErrorItem
)


class ThreadStarted(msgspec.Struct, frozen=True, omit_defaults=True, tag="thread.started", tag_field="type"):
    thread_id: str
    model: str = ""
    provider: str = ""
    resumed: bool = False


class TurnStarted(msgspec.Struct, frozen=True, omit_defaults=True, tag="turn.started", tag_field="type"):
    turn_id: str = ""


class ItemStarted(msgspec.Struct, frozen=True, tag="item.started", tag_field="type"):
    item: ShownItem


class ItemUpdated(msgspec.Struct, frozen=True, tag="item.updated", tag_field="type"):
    item: ShownItem


class ItemCompleted(msgspec.Struct, frozen=True, tag="item.completed", tag_field="type"):
    item: ShownItem


class ItemDelta(msgspec.Struct, frozen=True, tag="item.delta", tag_field="type"):
    """Text that arrived for an item still in the making; never journalled, superseded by `item.completed`."""

    item_id: str
    kind: Literal["message", "reasoning", "output"]
    delta: str


class TurnCompleted(msgspec.Struct, frozen=True, omit_defaults=True, tag="turn.completed", tag_field="type"):
    usage: Usage
    steps: int = 0
    wall_ms: float = 0.0


class EventError(msgspec.Struct, frozen=True, omit_defaults=True):
    message: str
    code: str = ""


class TurnFailed(msgspec.Struct, frozen=True, omit_defaults=True, tag="turn.failed", tag_field="type"):
    error: EventError
    usage: Usage | None = None
    steps: int = 0


class ThreadError(msgspec.Struct, frozen=True, tag="error", tag_field="type"):
    message: str


class StepRetry(msgspec.Struct, frozen=True, tag="step.retry", tag_field="type"):
    """A model request failed and will be sent again after `delay_s` seconds."""

    attempt: int
    limit: int
    delay_s: float
    reason: str


class CallRejected(msgspec.Struct, frozen=True, tag="call.rejected", tag_field="type"):
    """A tool call that did not run; the model is told `message` as its output."""

    call_id: str
    name: str
    reason: Literal["malformed", "unknown_tool", "denied", "forbidden", "interrupted"]
    message: str


class ContextCompacted(msgspec.Struct, frozen=True, tag="context.compacted", tag_field="type"):
    reason: Literal["limit", "overflow", "requested"]
    tokens_before: int
    tokens_after: int


class InputSteered(msgspec.Struct, frozen=True, tag="input.steered", tag_field="type"):
    """Words that arrived while the turn ran and are now part of the thread."""

    text: str


class GuardDecided(msgspec.Struct, frozen=True, omit_defaults=True, tag="guard.decided", tag_field="type"):
    """What a safeguard did, and why: the agent's own guard, or the endpoint.

    `step` and `scope` are of the guard's ladder, `message` is the notice for the person, `call_id` the call that it is
    about. `set_aside` says what of the conversation is not sent any more. A hold is told of when it begins, with the
    `choices` that there are, and when it ends, with the person's `answer`: `approve`, `drop`, or `wait`. `tier` and
    `engagement` are those that it was judged by.
    """

    by: Literal["agent", "endpoint"]
    step: str
    scope: str
    clause: str
    code: str
    decision: str
    message: str
    call_id: str = ""
    set_aside: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    answer: str = ""
    policy: str = ""
    tier: str = ""
    engagement: str = ""


class ModelServed(msgspec.Struct, frozen=True, omit_defaults=True, tag="model.served", tag_field="type"):
    """Another model served than was asked for; `why` is the endpoint's reason, "" where it gives none."""

    requested: str
    served: str
    why: str = ""


Event: TypeAlias = (
    ThreadStarted
    | TurnStarted
    | ItemStarted
    | ItemUpdated
    | ItemCompleted
    | ItemDelta
    | TurnCompleted
    | TurnFailed
    | ThreadError
    | StepRetry
    | CallRejected
    | ContextCompacted
    | InputSteered
    | GuardDecided
    | ModelServed
)
