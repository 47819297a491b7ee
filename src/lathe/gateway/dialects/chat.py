"""Requests of Chat Completions, read (platform.openai.com/docs/api-reference/chat/create)."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from lathe.gateway.dialects.base import BadRequest, Bound, Head, Inbound
from lathe.gateway.dialects.chat_writer import SEALED
from lathe.gateway.dialects.reading import allowed_tools, decoded, only_here, shaped
from lathe.gateway.dialects.reasoning import opened
from lathe.models.base import ModelRequest, Sampling, ToolSpec, Transcript
from lathe.models.wire import dumps
from lathe.protocol.items import (
    ContentPart,
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    InputImage,
    InputText,
    Item,
    Message,
    OutputText,
    Reasoning,
    ReasoningText,
    Refusal,
    Role,
)

SOURCE = "chat"


class _Function(msgspec.Struct):
    name: str
    arguments: str = "{}"


class _Custom(msgspec.Struct):
    name: str
    input: str = ""


class _Call(msgspec.Struct):
    id: str
    type: str | None = None
    function: _Function | None = None
    custom: _Custom | None = None


class _Message(msgspec.Struct):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[dict[str, Any]] | None = None
    refusal: str | None = None
    tool_calls: list[_Call] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: list[dict[str, Any]] | None = None
    function_call: Any = None
    audio: Any = None


class _Text(msgspec.Struct):
    text: str


class _ImageUrl(msgspec.Struct):
    url: str
    detail: str | None = None


class _Image(msgspec.Struct):
    image_url: _ImageUrl


class _RefusalPart(msgspec.Struct):
    refusal: str


class _FunctionTool(msgspec.Struct):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class _Grammar(msgspec.Struct):
    definition: str
    syntax: Literal["lark", "regex"] = "lark"


class _Format(msgspec.Struct):
    type: str = "text"
    grammar: _Grammar | None = None


class _CustomTool(msgspec.Struct):
    name: str
    description: str | None = None
    format: _Format | None = None


class _Tool(msgspec.Struct):
    type: str
    function: _FunctionTool | None = None
    custom: _CustomTool | None = None


class _Schema(msgspec.Struct):
    name: str = ""
    schema: dict[str, Any] | None = None
    strict: bool | None = None


class _ResponseFormat(msgspec.Struct):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: _Schema | None = None


class _Allowed(msgspec.Struct):
    tools: list[dict[str, Any]]
    mode: Literal["auto", "required"] = "auto"


class _Named(msgspec.Struct):
    name: str


class _Choice(msgspec.Struct):
    type: Literal["function", "custom", "allowed_tools"]
    function: _Named | None = None
    custom: _Named | None = None
    allowed_tools: _Allowed | None = None


class _Request(msgspec.Struct):
    messages: list[_Message]
    tools: list[_Tool] | None = None
    tool_choice: Literal["auto", "none", "required"] | _Choice | None = None
    parallel_tool_calls: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    response_format: _ResponseFormat | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    service_tier: str | None = None
    metadata: dict[str, str] | None = None
    prompt_cache_key: str | None = None
    n: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    logit_bias: dict[str, float] | None = None
    modalities: list[str] | None = None
    audio: Any = None
    web_search_options: Any = None
    functions: list[Any] | None = None
    function_call: Any = None


def parse(body: bytes, head: Head) -> Inbound:
    """Return what `body`, of which `head` is known, asks for; raise `BadRequest`."""
    raw = decoded(body)
    asked = shaped(raw, _Request, "")
    bound = _bound(asked)
    tools = tuple(_tool(tool, place, bound) for place, tool in enumerate(asked.tools or ()))
    known = tuple(tool for tool in tools if tool is not None)
    choice, name = "auto", ""
    match asked.tool_choice:
        case str(word):
            choice = word
        case _Choice(type="allowed_tools", allowed_tools=_Allowed(tools=allowed, mode=mode)):
            choice, known = mode, allowed_tools(known, allowed, "tool_choice.allowed_tools.tools")
        case _Choice(function=function, custom=custom):
            if (named := function or custom) is None:
                raise BadRequest("invalid_value", "`tool_choice` names no tool.", param="tool_choice")
            choice, name = "tool", named.name
    instructions, items = _conversation(asked.messages, bound)
    form = asked.response_format
    schema = (form.json_schema or _Schema()) if form and form.type == "json_schema" else None
    sampling = Sampling(
        tool_choice=choice,  # type: ignore[arg-type]
        tool_name=name,
        temperature=asked.temperature,
        top_p=asked.top_p,
        presence_penalty=asked.presence_penalty,
        frequency_penalty=asked.frequency_penalty,
        stop=(asked.stop,) if isinstance(asked.stop, str) else tuple(asked.stop or ()),
        seed=asked.seed,
        json_object=form is not None and form.type == "json_object",
        schema_name=schema.name if schema else "",
        schema_strict=schema.strict if schema else None,
        verbosity=asked.verbosity,
        service_tier=asked.service_tier,
        end_user=head.end_user,
        metadata=asked.metadata,
    )
    request = ModelRequest(
        instructions=instructions,
        tools=known,
        transcript=Transcript(items),
        thread_id=asked.prompt_cache_key or "",
        output_schema=(schema.schema or {}) if schema else None,
        reasoning_effort=asked.reasoning_effort,
        max_output_tokens=head.max_output_tokens,
        parallel_tool_calls=asked.parallel_tool_calls is not False,
        sampling=sampling,
    )
    return Inbound("chat", head, request, raw, tuple(bound))


def _bound(asked: _Request) -> list[Bound]:
    wanted = {
        "n": (asked.n or 1) > 1,
        "logprobs": asked.logprobs,
        "top_logprobs": asked.top_logprobs,
        "logit_bias": asked.logit_bias,
        "modalities": any(kind != "text" for kind in asked.modalities or ()),
        "audio": asked.audio,
        "web_search_options": asked.web_search_options is not None,
        "functions": asked.functions,
        "function_call": asked.function_call,
    }
    return [only_here("chat", name, f"`{name}`") for name, said in wanted.items() if said]


def _tool(tool: _Tool, place: int, bound: list[Bound]) -> ToolSpec | None:
    if tool.type == "function" and (function := tool.function) is not None:
        parameters = function.parameters or {"type": "object", "properties": {}}
        return ToolSpec(function.name, function.description or "", parameters, strict=bool(function.strict))
    if tool.type == "custom" and (custom := tool.custom) is not None:
        grammar = custom.format.grammar if custom.format else None
        return ToolSpec(
            custom.name,
            custom.description or "",
            {},
            freeform=True,
            grammar=grammar.definition if grammar else None,
            syntax=grammar.syntax if grammar else "lark",
        )
    if tool.type in ("function", "custom"):
        where = f"tools[{place}].{tool.type}"
        raise BadRequest("invalid_value", f"`{where}` is missing.", param=where)
    bound.append(only_here("chat", f"tools[{place}]", f"The tool type {tool.type[:60]!r}"))
    return None


def _conversation(messages: list[_Message], bound: list[Bound]) -> tuple[str, list[Item]]:
    """Return the instructions at the head of `messages`, and the items of the rest."""
    head: list[str] = []
    items: list[Item] = []
    freeform: set[str] = set()
    for place, message in enumerate(messages):
        where = f"messages[{place}]"
        match message.role:
            case "system" | "developer" if not items:
                head += [part.text for part in _parts(message, where, bound) if isinstance(part, InputText)]
            case "system" | "developer" | "user":
                # Not every model's template has a system message in mid-thread: the wire knows what it has.
                role: Role = "user" if message.role == "user" else "developer"
                items.append(Message(role, tuple(_parts(message, where, bound))))
            case "assistant":
                items += _answer(message, where, freeform, bound)
            case "tool":
                items.append(_output(message, where, freeform, bound))
            case _:
                bound.append(only_here("chat", where, f"The role {message.role!r}"))
    return "\n\n".join(head), items


def _answer(message: _Message, where: str, freeform: set[str], bound: list[Bound]) -> list[Item]:
    if message.function_call is not None or message.audio is not None:
        bound.append(only_here("chat", where, "A message with `function_call` or `audio`"))
    items: list[Item] = list(_thoughts(message))
    content: list[ContentPart] = [
        OutputText(part.text) if isinstance(part, InputText) else part for part in _parts(message, where, bound)
    ]
    if message.refusal:
        content.append(Refusal(message.refusal))
    if content:
        items.append(Message("assistant", tuple(content)))
    for place, call in enumerate(message.tool_calls or ()):
        if call.custom is not None:
            freeform.add(call.id)
            items.append(CustomToolCall(call.id, call.custom.name, call.custom.input))
        elif call.function is not None:
            items.append(FunctionCall(call.id, call.function.name, call.function.arguments))
        else:
            at = f"{where}.tool_calls[{place}]"
            raise BadRequest("invalid_value", f"`{at}` has neither a function nor a custom call.", param=at)
    return items


def _thoughts(message: _Message) -> list[Reasoning]:
    details = list(message.reasoning_details or ())
    kept = [opened(str(one.get("data"))) for one in details if one.get("type") == SEALED]
    foreign = [item for item in kept if item is not None]
    if foreign:
        return foreign
    text = message.reasoning_content or message.reasoning
    if not text and not details:
        return []
    return [
        Reasoning(
            content=(ReasoningText(text),) if text else (),
            encrypted_content=dumps(details).decode() if details else None,
            source=SOURCE,
        )
    ]


def _output(
    message: _Message, where: str, freeform: set[str], bound: list[Bound]
) -> FunctionCallOutput | CustomToolCallOutput:
    if not message.tool_call_id:
        raise BadRequest("invalid_value", f"`{where}.tool_call_id` is missing.", param=f"{where}.tool_call_id")
    output: str | tuple[ContentPart, ...]
    output = message.content if isinstance(message.content, str) else tuple(_parts(message, where, bound))
    kind = CustomToolCallOutput if message.tool_call_id in freeform else FunctionCallOutput
    return kind(message.tool_call_id, output)


def _parts(message: _Message, where: str, bound: list[Bound]) -> list[InputText | InputImage | Refusal]:
    content = message.content
    if isinstance(content, str):
        return [InputText(content)] if content else []
    parts: list[InputText | InputImage | Refusal] = []
    for place, part in enumerate(content or ()):
        at = f"{where}.content[{place}]"
        match part.get("type"):
            case "text":
                parts.append(InputText(shaped(part, _Text, at).text))
            case "refusal":
                parts.append(Refusal(shaped(part, _RefusalPart, at).refusal))
            case "image_url":
                image = shaped(part, _Image, at).image_url
                parts.append(InputImage(image.url, image.detail))
            case other:
                bound.append(only_here("chat", at, f"Content of the type {str(other)[:60]!r}"))
    return parts
