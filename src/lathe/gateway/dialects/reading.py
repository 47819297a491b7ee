"""What the readers of the three dialects share: values of the right shape, or one sentence that says which is not."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from lathe.gateway.dialects.base import BadRequest, Bound, Inbound
from lathe.models.base import Sampling, ToolSpec
from lathe.models.provider import WireName
from lathe.models.sampling import unsaid
from lathe.protocol.items import OpaqueItem

T = TypeVar("T")
_NAMES: dict[WireName, str] = {
    "responses": "the Responses API",
    "chat": "Chat Completions",
    "messages": "the Messages API",
}
_COMPACTED = ("compaction", "compaction_summary", "context_compaction")


def shaped(value: Any, kind: type[T], where: str) -> T:
    """Return `value`, decoded JSON, as a `kind`; raise `BadRequest` that names the place inside `where`."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        # "Expected `str`, got `int` - at `$.content`"
        what, _, path = str(error).partition(" - at `$")
        place = where + path.rstrip("`") if where else path.rstrip("`").lstrip(".")
        raise BadRequest("invalid_type", f"`{place}`: {what[:1].lower()}{what[1:]}.", param=place) from None


def decoded(body: bytes) -> dict[str, Any]:
    """Return the object that `body` is, which `read_fields` has accepted; raise `BadRequest`."""
    try:
        value = msgspec.json.decode(body)
    except UnicodeDecodeError:
        raise BadRequest("invalid_utf8", "The body is no UTF-8.") from None
    except msgspec.DecodeError as error:
        raise BadRequest("invalid_json", f"The body is no JSON: {error}.") from None
    except RecursionError:
        raise BadRequest("invalid_json", "The body is nested too deeply.") from None
    return value if isinstance(value, dict) else {}


def only_here(wire: WireName, param: str, what: str) -> Bound:
    """Return the note that `what`, said in the field `param`, exists on `wire` alone."""
    return Bound(param, f"{what} exists on {_NAMES[wire]} only, and the model is served over another one.")


def check_carried(inbound: Inbound, upstream: WireName) -> None:
    """Raise `BadRequest` for what `inbound` asks and an upstream that speaks `upstream` cannot be asked."""
    if inbound.bound and inbound.wire != upstream:
        first = inbound.bound[0]
        raise BadRequest("not_carried", first.message, param=first.param)
    lost = unsaid(inbound.request.sampling or Sampling(), upstream)
    if lost:
        words = f"The model is served over {_NAMES[upstream]}, which has no `{lost[0]}`."
        raise BadRequest("not_carried", words, param=lost[0])
    for item in inbound.request.transcript.items:
        if isinstance(item, OpaqueItem) and item.source != upstream and item.raw.get("type") in _COMPACTED:
            words = "The conversation holds a compaction that only the provider which wrote it can read."
            raise BadRequest("not_carried", words, param="input")


def allowed_tools(tools: tuple[ToolSpec, ...], allowed: list[dict[str, Any]], where: str) -> tuple[ToolSpec, ...]:
    """Return those of `tools` that a tool choice of the type `allowed_tools` names."""
    names = set()
    for entry in allowed:
        nested = entry.get("function") or entry.get("custom") or entry
        names.add(nested.get("name") if isinstance(nested, dict) else None)
    chosen = tuple(tool for tool in tools if tool.name in names)
    if not chosen:
        raise BadRequest("invalid_value", f"`{where}` names no tool of the request.", param=where)
    return chosen
