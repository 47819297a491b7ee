"""What a dialect is: one wire's words at the gateway's front, for callers of the official SDKs of that wire."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

from lathe.models.wire import arguments_of
from lathe.protocol.items import FunctionCall, ToolCall

if TYPE_CHECKING:
    from lathe.gateway.dialects.fields import Fields
    from lathe.models.base import ModelPart, ModelRequest
    from lathe.models.provider import WireName


class BadRequest(Exception):
    """A request that cannot be served as it stands. `message` is one sentence; `param` names the field at fault."""

    def __init__(self, code: str, message: str, *, param: str | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param
        self.status = status


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a caller may say to the gateway itself, in the field `lathe` of a request.

    `program` and `engagement` choose among what the caller holds; `no_fallback` wants the model that was asked for
    or an error.
    """

    program: str = ""
    engagement: str = ""
    no_fallback: bool = False


class Head(NamedTuple):
    """What is known of a request that passes through undecoded.

    `include_usage` says whether the caller wants a stream's usage: only Chat Completions leaves the choice.
    `end_user` is the caller's own name for its user, `fields` where the body's outermost fields stand.
    """

    model: str
    stream: bool
    include_usage: bool
    max_output_tokens: int | None
    store: bool | None
    previous_response_id: str
    end_user: str
    metadata: Mapping[str, Any]
    options: Options
    fields: Fields


class Bound(NamedTuple):
    """Something in a request that only its own wire can do, and the sentence that says so."""

    param: str
    message: str


class Inbound(NamedTuple):
    """A request, read: what it asks of a model, in no wire's words.

    `raw` is the body as decoded, `bound` what would be lost on the way to another wire. `left_out` names what is lost
    without harm, hosted tools that the model may use and need not: its caller is told.
    """

    wire: WireName
    head: Head
    request: ModelRequest
    raw: dict[str, Any]
    bound: tuple[Bound, ...]
    left_out: tuple[str, ...] = ()

    @property
    def freeform(self) -> frozenset[str]:
        """The names of the tools that the caller offers as freeform ones."""
        return frozenset(tool.name for tool in self.request.tools if tool.freeform)


def function_arguments(call: ToolCall) -> str:
    """Return the arguments of `call` for a caller that offered a function; text that is no JSON stays as it is."""
    return call.arguments if isinstance(call, FunctionCall) else arguments_of(call)


class Writer(Protocol):
    """Writes one answer in a caller's dialect, from the parts that any upstream's decoder gives.

    `extension` is the gateway's own object `lathe`. For a stream: `begin`, `feed` each part, and `end` or `fail`;
    otherwise `whole` alone.
    """

    def begin(self) -> bytes:
        """Return the first events."""
        ...

    def feed(self, part: ModelPart) -> bytes:
        """Return the events of `part`; b"" where it has none."""
        ...

    def end(self, extension: Mapping[str, Any]) -> bytes:
        """Return the last events, with usage and `extension`."""
        ...

    def fail(self, status: int, code: str, message: str, extra: Mapping[str, Any] | None = None) -> bytes:
        """Return the event that ends the stream with an error."""
        ...

    def whole(self, parts: Iterable[ModelPart], extension: Mapping[str, Any]) -> bytes:
        """Return the body of an answer without a stream."""
        ...
