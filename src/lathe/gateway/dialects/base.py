"""What a dialect is: one wire's words at the gateway's front, for callers of the official SDKs of that wire."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

if TYPE_CHECKING:
    from lathe.gateway.dialects.fields import Fields


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
