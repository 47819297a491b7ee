"""What a tool is, to the loop that calls it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias

import msgspec

from lathe.models.base import ToolSpec
from lathe.protocol.events import ShownItem
from lathe.protocol.items import ContentPart, ToolCall
from lathe.sandbox.policy import SandboxPolicy


class MalformedCall(Exception):
    """The arguments of a call make no sense; the message is one sentence for the model."""


class RunCommand(msgspec.Struct, frozen=True):
    """A wish to run `command` in `cwd`; `escalate` asks to run it outside the sandbox, `reason` says why."""

    command: str
    cwd: str
    escalate: bool = False
    reason: str = ""


class WriteFiles(msgspec.Struct, frozen=True):
    """A wish to write these absolute paths; of what is at those in `replaced`, nothing would be left."""

    paths: tuple[str, ...]
    replaced: tuple[str, ...] = ()


class CallExternal(msgspec.Struct, frozen=True):
    """A wish to call a tool of an MCP server; `read_only` is what the server says of it."""

    server: str
    tool: str
    read_only: bool = False


class ReachHost(msgspec.Struct, frozen=True):
    """A wish of a running command to connect to a host that no rule speaks of; `program` is what wishes it."""

    host: str
    port: int
    program: str = ""


Access: TypeAlias = RunCommand | WriteFiles | CallExternal | ReachHost


class Hiding(Protocol):
    """What keeps secrets out of what leaves a tool."""

    def hide(self, text: str) -> str:
        """Return `text` with placeholders in the place of secrets."""
        ...

    def waits(self, text: str) -> int:
        """Return up to where `text`, of which more will come, can be hidden now: behind that a secret may be cut."""
        ...


class NothingHidden:
    """Hides nothing."""

    def hide(self, text: str) -> str:
        return text

    def waits(self, text: str) -> int:
        return len(text)


class ToolContext(msgspec.Struct):
    """What a running call is given.

    `cwd` is the thread's working directory, `spill` a folder for outputs too long for the model, `item_id` the
    id of the item it shows. `show` tells the listener of an update of that item; `delta` of a piece of output.
    `escalated` is True only where a person or a rule allowed this call to leave the sandbox. `output_tokens`
    is how much of an output the model gets, and `hiding` keeps secrets out of it: what is cut is hidden before the cut.
    """

    cwd: Path
    policy: SandboxPolicy
    spill: Path
    item_id: str
    show: Callable[[ShownItem], None]
    delta: Callable[[str], None]
    escalated: bool = False
    output_tokens: int = 10_000
    hiding: Hiding = NothingHidden()


class Outcome(NamedTuple):
    """What a call gave: `output` for the model, `item` for the listener."""

    output: str | tuple[ContentPart, ...]
    item: ShownItem


class Tool(Protocol):
    """One tool. `parallel` tools only read, and may run beside each other; the rest run in order, alone."""

    @property
    def spec(self) -> ToolSpec: ...

    @property
    def parallel(self) -> bool: ...

    def parse(self, call: ToolCall) -> Any:
        """Return the call's arguments as this tool's own type; raise `MalformedCall`."""
        ...

    def access(self, args: Any, cwd: Path) -> tuple[Access, ...]:
        """Return what the call wishes to do, without doing anything."""
        ...

    def begin(self, args: Any, item_id: str) -> ShownItem:
        """Return the item as it is shown before the call runs."""
        ...

    async def run(self, args: Any, context: ToolContext) -> Outcome:
        """Do it. A failure that the model can act on is an `Outcome`; only Lathe's own errors are raised.

        Cancellation ends whatever runs before it returns.
        """
        ...
