"""What a scripted model says, in words that belong to no wire, and what goes wrong on the way."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

Wire: TypeAlias = Literal["responses", "chat", "messages"]
WIRES: tuple[Wire, ...] = ("responses", "chat", "messages")

ErrorKind: TypeAlias = Literal[
    "rate_limit",
    "quota",
    "auth",
    "not_found",
    "bad_request",
    "context_length",
    "timeout",
    "conflict",
    "server",
    "overloaded",
    "content_policy",
]


class Thought(msgspec.Struct, frozen=True, tag="reasoning", tag_field="type"):
    """Reasoning. `encrypted` is the opaque part: encrypted content, a signature, or redacted data without `text`.

    With `raw` the Responses API shows the text as the reasoning itself (open-weights models), else as a summary,
    and the Messages API has a thinking block also where there is no text to show.
    """

    text: str = ""
    encrypted: str | None = None
    raw: bool = False


class Words(msgspec.Struct, frozen=True, tag="text", tag_field="type"):
    """Text for the person. With `same_message` it is another content part of the message before it."""

    text: str
    same_message: bool = False


class Call(msgspec.Struct, frozen=True, tag="call", tag_field="type"):
    """A function call; `arguments` is sent as it is, valid JSON or not. `call_id` is made up where empty."""

    name: str
    arguments: str = "{}"
    call_id: str = ""


class FreeformCall(msgspec.Struct, frozen=True, tag="freeform", tag_field="type"):
    """A call of a freeform tool; on wires without them a function call with `{"input": ...}`."""

    name: str
    input: str
    call_id: str = ""


class Refuse(msgspec.Struct, frozen=True, tag="refusal", tag_field="type"):
    """The model declines, in these words."""

    text: str


class Foreign(msgspec.Struct, frozen=True, tag="foreign", tag_field="type"):
    """An item or content block only `wire` knows, sent there as `raw`; the other wires say nothing."""

    wire: Wire
    raw: dict[str, Any]


Said: TypeAlias = Thought | Words | Call | FreeformCall | Refuse | Foreign


class Tokens(msgspec.Struct, frozen=True):
    """Token counts; `cached` and `cache_write` are parts of `input`, `reasoning` of `output`."""

    input: int = 100
    cached: int = 0
    output: int = 10
    reasoning: int = 0
    cache_write: int = 0


class Step(msgspec.Struct, frozen=True):
    """One answer.

    What is said: `say`, `usage` (None: the endpoint reports none), `stop` ("" follows from `say`; "length";
    "refusal" is a content filter), `model` ("" is the server's own). `delta_chars` is the length of a delta.

    What goes wrong: `error` is sent as an HTTP error in the endpoint's own dialect, or with `in_stream` as
    the last event of a stream that began well; `status`, `headers` and `body` replace what would be sent.
    `delay_s` is waited before the first byte; `stall_s` after `stall_after_events` events, silently, and then
    the stream goes on. `cut_after_events` and `cut_after_bytes` (of the SSE text) end the connection there.
    `garbage` is put into the stream, as it is, after `garbage_after_events` events. `fragment_bytes` cuts the
    SSE text into HTTP chunks of that size, wherever a character ends; `crlf` ends its lines as some servers do.
    `until_close` sends no HTTP chunks at all: the end of the connection is the end of the stream.
    """

    say: tuple[Said, ...] = ()
    usage: Tokens | None = Tokens()
    stop: Literal["", "length", "refusal"] = ""
    model: str = ""
    delta_chars: int = 24

    error: ErrorKind | None = None
    in_stream: bool = False
    status: int = 0
    headers: dict[str, str] = {}
    body: str | None = None
    delay_s: float = 0.0
    stall_s: float = 0.0
    stall_after_events: int = 0
    cut_after_events: int | None = None
    cut_after_bytes: int | None = None
    garbage: str = ""
    garbage_after_events: int = 0
    fragment_bytes: int = 0
    crlf: bool = False
    until_close: bool = False


class Script(msgspec.Struct, frozen=True):
    """A script file: request number n gets `steps[n]`; with `repeat` the last step goes on for ever."""

    steps: tuple[Step, ...]
    repeat: bool = False
    model: str = "scripted-1"


def load_script(data: bytes) -> Script:
    """Return the script that a JSON text holds; raise `msgspec.DecodeError`."""
    return msgspec.json.decode(data, type=Script)


def pieces(text: str, size: int) -> list[str]:
    """Return `text` in pieces of `size` characters, as a model would stream it; none for an empty text."""
    size = max(size, 1)
    return [text[at : at + size] for at in range(0, len(text), size)]


class ErrorForm(msgspec.Struct, frozen=True):
    """How one kind of error looks: the status and the words of OpenAI's and of Anthropic's API."""

    status: int
    openai_type: str
    openai_code: str | None
    openai_message: str
    anthropic_status: int
    anthropic_type: str
    anthropic_message: str


# The types and codes are those of the two vendors' error references (platform.openai.com/docs/guides/error-codes,
# docs.anthropic.com/en/api/errors); the sentences have the vendors' marks that clients look for.
ERRORS: dict[str, ErrorForm] = {
    "rate_limit": ErrorForm(
        429,
        "requests",
        "rate_limit_exceeded",
        "Rate limit reached for scripted-1 on requests per min (RPM): Limit 3, Used 3, Requested 1.",
        429,
        "rate_limit_error",
        "This request would exceed your account's rate limit. Please try again later.",
    ),
    "quota": ErrorForm(
        429,
        "insufficient_quota",
        "insufficient_quota",
        "You exceeded your current quota, please check your plan and billing details.",
        400,
        "invalid_request_error",
        "Your credit balance is too low to access the Anthropic API.",
    ),
    "auth": ErrorForm(
        401,
        "invalid_request_error",
        "invalid_api_key",
        "Incorrect API key provided: sk-scri****pted.",
        401,
        "authentication_error",
        "invalid x-api-key",
    ),
    "not_found": ErrorForm(
        404,
        "invalid_request_error",
        "model_not_found",
        "The model `scripted-9` does not exist or you do not have access to it.",
        404,
        "not_found_error",
        "model: scripted-9",
    ),
    "bad_request": ErrorForm(
        400,
        "invalid_request_error",
        None,
        "Unknown parameter: 'colour'.",
        400,
        "invalid_request_error",
        "colour: Extra inputs are not permitted",
    ),
    "context_length": ErrorForm(
        400,
        "invalid_request_error",
        "context_length_exceeded",
        "This model's maximum context length is 8192 tokens. However, your messages resulted in 9216 tokens.",
        400,
        "invalid_request_error",
        "prompt is too long: 209216 tokens > 200000 maximum",
    ),
    "timeout": ErrorForm(
        408, "timeout", "timeout", "The request timed out.", 408, "timeout_error", "The request timed out."
    ),
    "conflict": ErrorForm(
        409, "conflict", None, "Another request holds this resource.", 409, "conflict_error", "Resource is locked."
    ),
    "server": ErrorForm(
        500,
        "server_error",
        "server_error",
        "The server had an error while processing your request.",
        500,
        "api_error",
        "Internal server error",
    ),
    "overloaded": ErrorForm(
        503,
        "server_error",
        "server_is_overloaded",
        "The engine is currently overloaded, please try again later.",
        529,
        "overloaded_error",
        "Overloaded",
    ),
    "content_policy": ErrorForm(
        400,
        "invalid_request_error",
        "cyber_policy",
        "This request has been flagged for possible cybersecurity risk.",
        400,
        "invalid_request_error",
        "Output blocked by content filtering policy",
    ),
}


def error_body(kind: ErrorKind, wire: Wire) -> tuple[int, dict[str, Any]]:
    """Return the HTTP status and the JSON body that `wire`'s vendor answers an error of `kind` with."""
    form = ERRORS[kind]
    if wire == "messages":
        error = {"type": form.anthropic_type, "message": form.anthropic_message}
        return form.anthropic_status, {"type": "error", "error": error, "request_id": "req_scripted"}
    details = {"message": form.openai_message, "type": form.openai_type, "param": None, "code": form.openai_code}
    return form.status, {"error": details}
