"""Errors in the caller's dialect: bodies, events that end a stream, and what an upstream's failure becomes.

The shapes and names are those of the vendors' error references (platform.openai.com/docs/guides/error-codes,
docs.anthropic.com/en/api/errors), as their SDKs, Codex and Claude Code look for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from lathe.models.http import TransportError
from lathe.models.provider import WireName
from lathe.models.responses_events import ResponsesEvents
from lathe.models.retry import EndpointError, Failure, judge, retry_after
from lathe.models.sse import sse_event
from lathe.models.wire import dumps

_OPENAI_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_ANTHROPIC_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class Refused(NamedTuple):
    """What the caller is told of a request that failed. `retry_after_s` is None where nobody knows."""

    status: int
    code: str
    message: str
    retry_after_s: float | None = None


def error_body(
    wire: WireName,
    status: int,
    code: str,
    message: str,
    *,
    param: str | None = None,
    extra: Mapping[str, Any] | None = None,
) -> bytes:
    """Return the JSON body of an error. `extra`, with the code, is the object `lathe` in the error itself.

    There the SDKs show it: what the `openai` package calls the body of an error is its inner object.
    """
    return dumps(_document(wire, error_object(wire, status, code, message, param=param, extra=extra)))


def error_event(
    wire: WireName,
    status: int,
    code: str,
    message: str,
    *,
    response_id: str = "",
    model: str = "",
    sequence: int = 0,
    extra: Mapping[str, Any] | None = None,
) -> bytes:
    """Return the SSE event that ends a stream with an error which the dialect's SDK raises.

    Codex looks for `response.failed`, the `openai` package for a field `error`; a Responses event has both.
    """
    error = error_object(wire, status, code, message, extra=extra)
    if wire == "responses":
        out = ResponsesEvents("", {"id": response_id, "model": model})
        out.sequence = sequence
        out.fail(code, message, error=error)
        return out.events[0]
    return sse_event("error" if wire == "messages" else "", _document(wire, error))


def error_object(
    wire: WireName,
    status: int,
    code: str,
    message: str,
    *,
    param: str | None = None,
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the object `error` of an error in `wire`."""
    own = {"code": code, **(extra or {})}
    if wire == "messages":
        kind = _ANTHROPIC_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
        return {"type": kind, "message": message, "lathe": own}
    kind = _OPENAI_TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    if code == "insufficient_quota":
        kind = code
    return {"message": message, "type": kind, "param": param, "code": code, "lathe": own}


def _document(wire: WireName, error: dict[str, Any]) -> dict[str, Any]:
    return {"type": "error", "error": error} if wire == "messages" else {"error": error}


def refused(failure: Failure, wire: WireName, model: str) -> Refused:
    """Return what a caller in `wire` is told of an upstream's `failure`.

    What is wrong between the gateway and its upstream (its key, its account, its address) is never the caller's
    401, 403 or 404.
    """
    if not isinstance(failure, EndpointError):
        if isinstance(failure, TransportError) and failure.fault == "idle":
            return Refused(504, "upstream_timeout", f"The upstream of {model} did not answer in time.")
        what = "broke off its answer" if not isinstance(failure, TransportError) else "could not be reached"
        return Refused(502, "upstream_unavailable", f"The upstream of {model} {what}.")
    match judge(failure):
        case "key":
            return Refused(502, "upstream_key", f"The upstream of {model} refused the gateway's own key.")
        case "quota":
            return Refused(503, "upstream_quota", f"The gateway's account at the upstream of {model} is used up.")
        case "missing_model" | "missing_path":
            return Refused(502, "upstream_model_missing", f"The upstream of {model} does not serve it.")
        case "overflow":
            return Refused(400, "context_length_exceeded", _overflow(failure, wire))
        case "rejected" | "blocked":
            status = failure.status if failure.status in (400, 409, 413, 415, 422) else 400
            return Refused(status, failure.code or "invalid_request", failure.message or "The upstream refused it.")
        case _:
            return _transient(failure, wire, model)


def _transient(failure: EndpointError, wire: WireName, model: str) -> Refused:
    wait_s = retry_after(failure)
    code = failure.code.lower()
    if failure.status == 429 or "rate_limit" in code:
        words = f"The upstream of {model} takes no more requests for now."
        # Codex reads the wait from these words.
        again = f" Please try again in {wait_s:g}s." if wait_s is not None else ""
        return Refused(429, "rate_limit_exceeded", words + again, wait_s)
    if failure.status in (503, 529) or "overload" in code or "unavailable" in code:
        status = 529 if wire == "messages" else 503
        return Refused(status, "server_is_overloaded", f"The upstream of {model} is overloaded.", wait_s)
    if failure.status in (408, 504) or "timeout" in code:
        return Refused(504, "upstream_timeout", f"The upstream of {model} did not answer in time.", wait_s)
    words = failure.message or failure.code or f"HTTP {failure.status}"
    return Refused(502, "upstream_server_error", f"The upstream of {model} failed: {words}", wait_s)


def _overflow(failure: EndpointError, wire: WireName) -> str:
    """Return words by which the dialect's clients know that the context is full: Claude Code has only the words."""
    message = failure.message or "the conversation is longer than the model's context window"
    if wire != "messages" or "prompt is too long" in message.lower():
        return message
    return f"prompt is too long: {message}"
