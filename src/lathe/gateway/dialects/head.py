"""The head of a request: the few fields by which a body is judged that goes on as it came."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from lathe.gateway.dialects.base import BadRequest, Head, Options
from lathe.gateway.dialects.fields import read_fields, rewritten
from lathe.models.provider import WireName

NO_OPTIONS = Options()


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Kind(NamedTuple):
    decode: Callable[[msgspec.Raw], Any]
    words: str


def _kind(type_: Any, words: str) -> _Kind:
    return _Kind(msgspec.json.Decoder(type_).decode, words)


_STRING = _kind(str | None, "a string")
_FLAG = _kind(bool | None, "true or false")
_COUNT = _kind(int | None, "a whole number")
_OBJECT = _kind(dict[str, Any] | None, "an object")
_LONGEST_NAME = 200
_LIMITS = ("max_output_tokens", "max_completion_tokens", "max_tokens")
_KINDS: dict[str, _Kind] = {
    "model": _kind(str, "a string"),
    "stream": _FLAG,
    "store": _FLAG,
    "no_fallback": _FLAG,
    "previous_response_id": _STRING,
    "user": _STRING,
    "safety_identifier": _STRING,
    "metadata": _OBJECT,
    "stream_options": _kind(_StreamOptions | None, "an object"),
    "lathe": _kind(Options | None, "an object with `program`, `engagement` or `no_fallback`"),
    **dict.fromkeys(_LIMITS, _COUNT),
}


def read_head(wire: WireName, body: bytes) -> Head:
    """Return the head of `body`, a request in `wire`; raise `BadRequest`."""
    fields = read_fields(body)
    said: dict[str, Any] = {}
    for name in fields.keys() & _KINDS.keys():
        kind = _KINDS[name]
        try:
            said[name] = kind.decode(fields[name].raw)
        except UnicodeDecodeError:
            raise BadRequest("invalid_utf8", f"The field `{name}` is no UTF-8.", param=name) from None
        except (msgspec.DecodeError, RecursionError):
            raise BadRequest("invalid_type", f"The field `{name}` must be {kind.words}.", param=name) from None
    model = said.get("model")
    if not model:
        raise BadRequest("model_missing", "The request names no model.", param="model")
    if len(model) > _LONGEST_NAME or not model.isprintable():  # it goes into headers and records
        raise BadRequest("model_unknown", "No model has such a name.", param="model", status=404)
    options = said.get("lathe") or NO_OPTIONS
    if said.get("no_fallback"):
        options = msgspec.structs.replace(options, no_fallback=True)
    metadata = said.get("metadata") or {}
    stream_options = said.get("stream_options")
    user = metadata.get("user_id") if wire == "messages" else said.get("safety_identifier") or said.get("user")
    return Head(
        model=model,
        stream=bool(said.get("stream")),
        include_usage=wire != "chat" or bool(stream_options and stream_options.include_usage),
        max_output_tokens=next((said[name] for name in _LIMITS if said.get(name) is not None), None),
        store=said.get("store"),
        previous_response_id=said.get("previous_response_id") or "",
        end_user=user if isinstance(user, str) else "",
        metadata=metadata,
        options=options,
        fields=fields,
    )


def retitled(wire: WireName, body: bytes, head: Head, model: str, *, ask_usage: bool = False) -> bytes:
    """Return `body` for an upstream that calls the model `model`, without what is the gateway's own.

    With `ask_usage` a Chat stream is asked for its usage too, whatever the caller said.
    """
    changes: dict[str, bytes | None] = {name: None for name in ("lathe", "no_fallback") if name in head.fields}
    if model != head.model:
        changes["model"] = msgspec.json.encode(model)
    if ask_usage and wire == "chat" and head.stream and not head.include_usage:
        place = head.fields.get("stream_options")
        given = msgspec.json.decode(place.raw) if place else None
        changes["stream_options"] = msgspec.json.encode({**(given or {}), "include_usage": True})
    return rewritten(body, head.fields, changes) if changes else body
