"""A scripted step as Responses, Chat Completions or Messages would stream it.

The event sequences follow the three APIs' streaming references and were checked with the official `openai` and
`anthropic` SDKs: platform.openai.com/docs/api-reference/responses-streaming, .../chat/streaming and
docs.anthropic.com/en/docs/build-with-claude/streaming.
"""

from __future__ import annotations

import contextlib
from typing import Any, NamedTuple

import msgspec

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

_CREATED = 1_760_000_000
_json = msgspec.json.Encoder()


class Answer(NamedTuple):
    """A step on one wire: `events` for `stream: true` (each a whole SSE event), `whole` for the rest."""

    events: list[bytes]
    whole: dict[str, Any]


def render(step: Step, wire: Wire, number: int, model: str, with_usage: bool = True) -> Answer:
    """Return `step` as the answer to request `number`; `with_usage` is Chat's `stream_options.include_usage`."""
    if wire == "responses":
        return _Responses(step, number, model).answer()
    if wire == "messages":
        return _Messages(step, number, model).answer()
    return _Chat(step, number, model, with_usage).answer()


def _sse(name: str, payload: dict[str, Any]) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + _json.encode(payload) + b"\n\n"


def _call_id(call: Call | FreeformCall, number: int, index: int) -> str:
    return call.call_id or f"call_{number}_{index}"


def _as_function(call: Call | FreeformCall) -> tuple[str, str]:
    """Return name and arguments of a call on a wire that has functions only."""
    if isinstance(call, Call):
        return call.name, call.arguments
    return call.name, _json.encode({"input": call.input}).decode()


class _Responses:
    """Builds one Responses stream; every event has a sequence number and its type twice."""

    def __init__(self, step: Step, number: int, model: str) -> None:
        self.step = step
        self.number = number
        self.model = step.model or model
        self.events: list[bytes] = []
        self.output: list[dict[str, Any]] = []

    def answer(self) -> Answer:
        self.emit("response.created", response=self.response("in_progress"))
        self.emit("response.in_progress", response=self.response("in_progress"))
        message: list[Words | Refuse] = []
        for place, said in enumerate(self.step.say):
            joins = isinstance(said, Words) and said.same_message
            if message and not joins:
                self.message(message)
                message = []
            if isinstance(said, Words | Refuse):
                message.append(said)
            elif isinstance(said, Thought):
                self.thought(said)
            elif isinstance(said, Foreign):
                if said.wire == "responses":
                    self.item(said.raw, said.raw)
            else:
                self.call(said, place)
        if message:
            self.message(message)
        return Answer(self.events, self.finish())

    def finish(self) -> dict[str, Any]:
        if self.step.error and self.step.in_stream:
            form = ERRORS[self.step.error]
            response = self.response("failed")
            response["error"] = {"code": form.openai_code or form.openai_type, "message": form.openai_message}
            self.emit("response.failed", response=response)
            return response
        status = "incomplete" if self.step.stop else "completed"
        response = self.response(status)
        response["output"] = self.output
        response["usage"] = _responses_usage(self.step.usage)
        if self.step.stop:
            reason = "max_output_tokens" if self.step.stop == "length" else "content_filter"
            response["incomplete_details"] = {"reason": reason}
        self.emit(f"response.{status}", response=response)
        return response

    def emit(self, kind: str, **fields: Any) -> None:
        payload = {"type": kind, "sequence_number": len(self.events), **fields}
        self.events.append(_sse(kind, payload))

    def response(self, status: str) -> dict[str, Any]:
        return {
            "id": f"resp_{self.number}",
            "object": "response",
            "created_at": _CREATED,
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "model": self.model,
            "output": [],
            "parallel_tool_calls": True,
            "previous_response_id": None,
            "reasoning": {"effort": None, "summary": None},
            "store": False,
            "temperature": 1.0,
            "text": {"format": {"type": "text"}},
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
            "truncation": "disabled",
            "usage": None,
        }

    def item_id(self, prefix: str) -> str:
        return f"{prefix}_{self.number}_{len(self.output)}"

    def item(self, began: dict[str, Any], done: dict[str, Any]) -> None:
        self.emit("response.output_item.added", output_index=len(self.output), item=began)
        self.end(done)

    def end(self, done: dict[str, Any]) -> None:
        self.emit("response.output_item.done", output_index=len(self.output), item=done)
        self.output.append(done)

    def message(self, parts: list[Words | Refuse]) -> None:
        item_id, index = self.item_id("msg"), len(self.output)
        base = {"id": item_id, "type": "message", "role": "assistant"}
        self.emit(
            "response.output_item.added", output_index=index, item={**base, "status": "in_progress", "content": []}
        )
        content: list[dict[str, Any]] = []
        for part in parts:
            where = {"item_id": item_id, "output_index": index, "content_index": len(content)}
            if isinstance(part, Refuse):
                done: dict[str, Any] = {"type": "refusal", "refusal": part.text}
                self.emit("response.content_part.added", **where, part={"type": "refusal", "refusal": ""})
                for piece in pieces(part.text, self.step.delta_chars):
                    self.emit("response.refusal.delta", **where, delta=piece)
                self.emit("response.refusal.done", **where, refusal=part.text)
            else:
                done = {"type": "output_text", "annotations": [], "logprobs": [], "text": part.text}
                self.emit("response.content_part.added", **where, part={**done, "text": ""})
                for piece in pieces(part.text, self.step.delta_chars):
                    self.emit("response.output_text.delta", **where, delta=piece, logprobs=[])
                self.emit("response.output_text.done", **where, text=part.text, logprobs=[])
            self.emit("response.content_part.done", **where, part=done)
            content.append(done)
        self.end({**base, "status": "incomplete" if self.step.stop else "completed", "content": content})

    def thought(self, thought: Thought) -> None:
        item_id, index = self.item_id("rs"), len(self.output)
        base: dict[str, Any] = {"id": item_id, "type": "reasoning", "summary": []}
        done = dict(base)
        # The endpoint shows the encrypted text of the first event too, shorter than the final one.
        if thought.encrypted is not None:
            base["encrypted_content"] = thought.encrypted[:4]
            done["encrypted_content"] = thought.encrypted
        self.emit("response.output_item.added", output_index=index, item=base)
        where: dict[str, Any] = {"item_id": item_id, "output_index": index}
        if thought.text and thought.raw:
            done["content"] = [{"type": "reasoning_text", "text": thought.text}]
            for piece in pieces(thought.text, self.step.delta_chars):
                self.emit("response.reasoning_text.delta", **where, content_index=0, delta=piece)
            self.emit("response.reasoning_text.done", **where, content_index=0, text=thought.text)
        elif thought.text:
            part = {"type": "summary_text", "text": thought.text}
            done["summary"] = [part]
            where["summary_index"] = 0
            self.emit("response.reasoning_summary_part.added", **where, part={**part, "text": ""})
            for piece in pieces(thought.text, self.step.delta_chars):
                self.emit("response.reasoning_summary_text.delta", **where, delta=piece)
            self.emit("response.reasoning_summary_text.done", **where, text=thought.text)
            self.emit("response.reasoning_summary_part.done", **where, part=part)
        self.end(done)

    def call(self, call: Call | FreeformCall, place: int) -> None:
        index = len(self.output)
        function = isinstance(call, Call)
        item_id = self.item_id("fc" if function else "ctc")
        kind, field = ("function_call", "arguments") if function else ("custom_tool_call", "input")
        event = "response.function_call_arguments" if function else "response.custom_tool_call_input"
        text = call.arguments if isinstance(call, Call) else call.input
        base = {"id": item_id, "type": kind, "call_id": _call_id(call, self.number, place), "name": call.name}
        began = {**base, "status": "in_progress", field: ""}
        self.emit("response.output_item.added", output_index=index, item=began)
        for piece in pieces(text, self.step.delta_chars):
            self.emit(f"{event}.delta", item_id=item_id, output_index=index, delta=piece)
        self.emit(f"{event}.done", item_id=item_id, output_index=index, **{field: text})
        self.end({**base, "status": "completed", field: text})


def _responses_usage(usage: Tokens | None) -> dict[str, Any] | None:
    if usage is None:
        return None
    return {
        "input_tokens": usage.input,
        "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": usage.cache_write},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.input + usage.output,
    }


class _Chat:
    """Builds one Chat Completions stream: chunks with one choice, a usage chunk, `[DONE]`."""

    def __init__(self, step: Step, number: int, model: str, with_usage: bool) -> None:
        self.step = step
        self.model = step.model or model
        self.number = number
        self.with_usage = with_usage
        self.events: list[bytes] = []
        self.calls: list[dict[str, Any]] = []
        self.message: dict[str, Any] = {"role": "assistant", "content": None}

    def answer(self) -> Answer:
        self.delta({"role": "assistant", "content": ""})
        for index, said in enumerate(self.step.say):
            if isinstance(said, Thought):
                self.thought(said)
            elif isinstance(said, Words):
                self.text("content", said.text)
            elif isinstance(said, Refuse):
                self.text("refusal", said.text)
            elif isinstance(said, Call | FreeformCall):
                self.call(said, index)
        if self.step.error and self.step.in_stream:
            self.data(error_body(self.step.error, "chat")[1])
            return Answer(self.events, {})
        finish = {"length": "length", "refusal": "content_filter"}.get(
            self.step.stop, "tool_calls" if self.calls else "stop"
        )
        self.delta({}, finish)
        usage = _chat_usage(self.step.usage)
        if usage and self.with_usage:
            self.data({**self.head("chat.completion.chunk"), "choices": [], "usage": usage})
        self.events.append(b"data: [DONE]\n\n")
        if self.calls:
            self.message["tool_calls"] = self.calls
        choice = {"index": 0, "message": self.message, "finish_reason": finish, "logprobs": None}
        return Answer(self.events, {**self.head("chat.completion"), "choices": [choice], "usage": usage})

    def head(self, kind: str) -> dict[str, Any]:
        return {"id": f"chatcmpl-{self.number}", "object": kind, "created": _CREATED, "model": self.model}

    def data(self, payload: dict[str, Any]) -> None:
        self.events.append(b"data: " + _json.encode(payload) + b"\n\n")

    def delta(self, delta: dict[str, Any], finish: str | None = None) -> None:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        self.data({**self.head("chat.completion.chunk"), "choices": [choice]})

    def text(self, field: str, text: str) -> None:
        for piece in pieces(text, self.step.delta_chars):
            self.delta({field: piece})
        self.message[field] = (self.message.get(field) or "") + text

    def thought(self, thought: Thought) -> None:
        # `reasoning_content` is what DeepSeek, vLLM, SGLang and llama.cpp call it; the API itself shows none.
        if thought.text:
            self.text("reasoning_content", thought.text)
        if thought.encrypted is not None:
            # OpenRouter's form of what must be sent back as it came (openrouter.ai/docs, "Reasoning Tokens").
            details = [
                {"type": "reasoning.encrypted", "data": thought.encrypted, "id": f"rs_{self.number}", "index": 0}
            ]
            self.delta({"reasoning_details": details})
            self.message["reasoning_details"] = details

    def call(self, call: Call | FreeformCall, index: int) -> None:
        name, arguments = _as_function(call)
        at, call_id = len(self.calls), _call_id(call, self.number, index)
        function = {"name": name, "arguments": ""}
        self.delta({"tool_calls": [{"index": at, "id": call_id, "type": "function", "function": function}]})
        for piece in pieces(arguments, self.step.delta_chars):
            self.delta({"tool_calls": [{"index": at, "function": {"arguments": piece}}]})
        self.calls.append({"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}})


def _chat_usage(usage: Tokens | None) -> dict[str, Any] | None:
    if usage is None:
        return None
    return {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": usage.cache_write},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    }


class _Messages:
    """Builds one Messages stream: blocks with an index, usage at both ends."""

    def __init__(self, step: Step, number: int, model: str) -> None:
        self.step = step
        self.number = number
        self.model = step.model or model
        self.events: list[bytes] = []
        self.content: list[dict[str, Any]] = []

    def answer(self) -> Answer:
        usage = _messages_usage(self.step.usage)
        message: dict[str, Any] = {
            "id": f"msg_{self.number}",
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {**usage, "output_tokens": min(usage["output_tokens"], 1)},
        }
        self.emit("message_start", message=message)
        self.emit("ping")
        for index, said in enumerate(self.step.say):
            self.block(said, index)
        if self.step.error and self.step.in_stream:
            self.events.append(_sse("error", error_body(self.step.error, "messages")[1]))
            return Answer(self.events, {})
        stop = self.stop_reason()
        delta: dict[str, Any] = {"stop_reason": stop, "stop_sequence": None}
        if stop == "refusal":
            delta["stop_details"] = {"type": "refusal", "category": None, "explanation": None}
        # What message_start counted is not said again: a client has to keep it.
        counted = {key: value for key, value in usage.items() if key.startswith("output")}
        self.emit("message_delta", delta=delta, usage=counted)
        self.emit("message_stop")
        return Answer(self.events, {**message, **delta, "content": self.content, "usage": usage})

    def stop_reason(self) -> str:
        if self.step.stop == "length":
            return "max_tokens"
        if self.step.stop == "refusal" or any(isinstance(said, Refuse) for said in self.step.say):
            return "refusal"
        calls = any(isinstance(said, Call | FreeformCall) for said in self.step.say)
        return "tool_use" if calls else "end_turn"

    def emit(self, kind: str, **fields: Any) -> None:
        self.events.append(_sse(kind, {"type": kind, **fields}))

    def block(self, said: Any, index: int) -> None:
        if isinstance(said, Words | Refuse):
            self.stream({"type": "text", "text": ""}, "text_delta", "text", said.text)
        elif isinstance(said, Thought) and (said.text or said.raw or said.encrypted is None):
            signature = said.encrypted or f"signature-{self.number}-{index}"
            began = {"type": "thinking", "thinking": "", "signature": ""}
            self.stream(began, "thinking_delta", "thinking", said.text, signature)
        elif isinstance(said, Thought):
            self.whole({"type": "redacted_thinking", "data": said.encrypted})
        elif isinstance(said, Foreign):
            if said.wire == "messages":
                self.whole(said.raw)
        elif isinstance(said, Call | FreeformCall):
            name, arguments = _as_function(said)
            self.tool_use(_call_id(said, self.number, index), name, arguments)

    def whole(self, block: dict[str, Any]) -> None:
        at = len(self.content)
        self.emit("content_block_start", index=at, content_block=block)
        self.emit("content_block_stop", index=at)
        self.content.append(block)

    def stream(self, began: dict[str, Any], delta: str, field: str, text: str, signature: str = "") -> None:
        at = len(self.content)
        self.emit("content_block_start", index=at, content_block=began)
        for piece in pieces(text, self.step.delta_chars):
            self.emit("content_block_delta", index=at, delta={"type": delta, field: piece})
        done = {**began, field: text}
        if signature:
            self.emit("content_block_delta", index=at, delta={"type": "signature_delta", "signature": signature})
            done["signature"] = signature
        self.emit("content_block_stop", index=at)
        self.content.append(done)

    def tool_use(self, call_id: str, name: str, arguments: str) -> None:
        at = len(self.content)
        block: dict[str, Any] = {"type": "tool_use", "id": call_id, "name": name, "input": {}}
        self.emit("content_block_start", index=at, content_block=block)
        # The API sends one empty delta first, and nothing more for a call without arguments.
        for piece in ["", *pieces("" if arguments == "{}" else arguments, self.step.delta_chars)]:
            self.emit("content_block_delta", index=at, delta={"type": "input_json_delta", "partial_json": piece})
        self.emit("content_block_stop", index=at)
        with contextlib.suppress(msgspec.DecodeError):
            block = {**block, "input": msgspec.json.decode(arguments, type=dict[str, Any])}
        self.content.append(block)


def _messages_usage(usage: Tokens | None) -> dict[str, Any]:
    usage = usage or Tokens(input=0, output=0)
    return {
        "input_tokens": usage.input - usage.cached - usage.cache_write,
        "cache_creation_input_tokens": usage.cache_write,
        "cache_read_input_tokens": usage.cached,
        "output_tokens": usage.output,
        "output_tokens_details": {"thinking_tokens": usage.reasoning},
    }
