"""A scripted step as Responses, Chat Completions or Messages would stream it.

The sequences of events were checked with the official `openai` and `anthropic` SDKs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from lathe.models.chat_events import ChatEvents
from lathe.models.messages_events import TEXT, THINKING, MessagesEvents, usage_of
from lathe.models.responses_events import ResponsesEvents
from lathe.models.script import (
    ERRORS,
    Call,
    Foreign,
    FreeformCall,
    Refuse,
    Step,
    Thought,
    Tokens,
    Wire,
    Words,
    error_body,
    pieces,
)
from lathe.models.wire import dumps
from lathe.protocol.usage import Usage

_CREATED = 1_760_000_000


class Answer(NamedTuple):
    """A step on one wire: `events` for `stream: true` (each a whole SSE event), `whole` for the rest."""

    events: list[bytes]
    whole: dict[str, Any]


def render(step: Step, wire: Wire, number: int, model: str, with_usage: bool = True) -> Answer:
    """Return `step` as the answer to request `number`; `with_usage` is Chat's `stream_options.include_usage`."""
    model = step.model or model
    if wire == "responses":
        return _responses(step, number, ResponsesEvents(str(number), _response(number, model)))
    if wire == "messages":
        return _messages(step, number, MessagesEvents(f"msg_{number}", model))
    return _chat(step, number, ChatEvents(f"chatcmpl-{number}", model, _CREATED), with_usage)


def _response(number: int, model: str) -> dict[str, Any]:
    return {"id": f"resp_{number}", "created_at": _CREATED, "model": model}


def _call_id(call: Call | FreeformCall, number: int, index: int) -> str:
    return call.call_id or f"call_{number}_{index}"


def _as_function(call: Call | FreeformCall) -> str:
    """Return the arguments of a call on a wire that has functions only."""
    return call.arguments if isinstance(call, Call) else dumps({"input": call.input}).decode()


def _usage(tokens: Tokens | None) -> Usage | None:
    if tokens is None:
        return None
    return Usage(
        input_tokens=tokens.input,
        cached_input_tokens=tokens.cached,
        output_tokens=tokens.output,
        reasoning_output_tokens=tokens.reasoning,
        cache_write_tokens=tokens.cache_write,
    )


def _responses(step: Step, number: int, out: ResponsesEvents) -> Answer:
    out.begin()
    size = step.delta_chars
    status = "incomplete" if step.stop else "completed"
    message = None
    for place, said in enumerate(step.say):
        if message and not (isinstance(said, Words) and said.same_message):
            message.done(status=status)
            message = None
        if isinstance(said, Words | Refuse):
            message = message or out.message()
            message.part(refusal=isinstance(said, Refuse))
            for piece in pieces(said.text, size):
                message.say(piece, refusal=isinstance(said, Refuse))
        elif isinstance(said, Thought):
            # The endpoint shows the encrypted text of the first event too, shorter than the final one.
            thought = out.thought(said.encrypted and said.encrypted[:4])
            for piece in pieces(said.text, size):
                thought.say(piece, raw=said.raw)
            thought.done(said.encrypted)
        elif isinstance(said, Foreign):
            if said.wire == "responses":
                out.whole(said.raw)
        else:
            text = said.arguments if isinstance(said, Call) else said.input
            freeform = isinstance(said, FreeformCall)
            out.call(_call_id(said, number, place), said.name, pieces(text, size), freeform=freeform)
    if message:
        message.done(status=status)
    if step.error and step.in_stream:
        form = ERRORS[step.error]
        return Answer(out.events, out.fail(form.openai_code or form.openai_type, form.openai_message))
    incomplete = {"length": "max_output_tokens", "refusal": "content_filter"}.get(step.stop, "")
    whole = out.end(_usage(step.usage), incomplete=incomplete)
    return Answer(out.events, whole)


def _chat(step: Step, number: int, out: ChatEvents, with_usage: bool) -> Answer:
    out.begin()
    for place, said in enumerate(step.say):
        if isinstance(said, Thought):
            # `reasoning_content` is what DeepSeek, vLLM, SGLang and llama.cpp call it; the API itself shows none.
            for piece in pieces(said.text, step.delta_chars):
                out.say(piece, "reasoning_content")
            if said.encrypted is not None:
                detail = {"type": "reasoning.encrypted", "data": said.encrypted, "id": f"rs_{number}", "index": 0}
                out.details([detail])
        elif isinstance(said, Words | Refuse):
            field = "content" if isinstance(said, Words) else "refusal"
            out.message[field] = out.message.get(field) or ""
            for piece in pieces(said.text, step.delta_chars):
                out.say(piece, field)
        elif isinstance(said, Call | FreeformCall):
            out.call(_call_id(said, number, place), said.name, pieces(_as_function(said), step.delta_chars))
    if step.error and step.in_stream:
        out.data(error_body(step.error, "chat")[1])
        return Answer(out.events, {})
    finish = {"length": "length", "refusal": "content_filter"}.get(step.stop, "")
    whole = out.end(_usage(step.usage), finish=finish, with_usage=with_usage)
    return Answer(out.events, whole)


def _messages(step: Step, number: int, out: MessagesEvents) -> Answer:
    usage = _usage(step.usage) or Usage()
    out.begin(usage)
    for place, said in enumerate(step.say):
        _messages_block(said, number, place, out, step.delta_chars)
    if step.error and step.in_stream:
        error = error_body(step.error, "messages")[1]
        out.emit("error", **{key: value for key, value in error.items() if key != "type"})
        return Answer(out.events, {})
    # What message_start counted is not said again: a client has to keep it.
    counts = {key: value for key, value in usage_of(usage).items() if key.startswith("output")}
    whole = out.end(_stop_reason(step), counts, usage)
    return Answer(out.events, whole)


def _stop_reason(step: Step) -> str:
    if step.stop == "length":
        return "max_tokens"
    if step.stop == "refusal" or any(isinstance(said, Refuse) for said in step.say):
        return "refusal"
    return "tool_use" if any(isinstance(said, Call | FreeformCall) for said in step.say) else "end_turn"


def _messages_block(said: Any, number: int, place: int, out: MessagesEvents, size: int) -> None:
    if isinstance(said, Words | Refuse):
        out.open(TEXT)
        for piece in pieces(said.text, size):
            out.say(piece)
        out.close()
    elif isinstance(said, Thought) and (said.text or said.raw or said.encrypted is None):
        out.open(THINKING)
        for piece in pieces(said.text, size):
            out.say(piece)
        out.close(said.encrypted or f"signature-{number}-{place}")
    elif isinstance(said, Thought):
        out.whole({"type": "redacted_thinking", "data": said.encrypted})
    elif isinstance(said, Foreign):
        if said.wire == "messages":
            out.whole(said.raw)
    elif isinstance(said, Call | FreeformCall):
        arguments = _as_function(said)
        out.call(_call_id(said, number, place), said.name, arguments, pieces(arguments, size))
