"""Requests of the Responses API, read (platform.openai.com/docs/api-reference/responses/create)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

import msgspec

from lathe.gateway.dialects.base import BadRequest, Bound, Head, Inbound
from lathe.gateway.dialects.reading import allowed_tools, decoded, only_here, shaped
from lathe.gateway.dialects.reasoning import opened
from lathe.models.base import ModelRequest, Sampling, ToolSpec, Transcript
from lathe.models.wire import text_parts
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
    OpaqueItem,
    OutputText,
    Reasoning,
    ReasoningText,
    Refusal,
    Role,
    SummaryText,
)

SOURCE = "responses"
_MORE_TOOLS = "additional_tools"


class _Words(msgspec.Struct):
    text: str


class _Refused(msgspec.Struct):
    refusal: str


class _Image(msgspec.Struct):
    image_url: str | None = None
    detail: str | None = None


class _Message(msgspec.Struct):
    role: Role
    content: str | list[dict[str, Any]]
    id: str | None = None
    phase: str | None = None


class _Reasoning(msgspec.Struct):
    summary: list[_Words] | None = None
    content: list[_Words] | None = None
    encrypted_content: str | None = None
    id: str | None = None


class _Output(msgspec.Struct):
    call_id: str
    output: str | list[dict[str, Any]]


class _Tool(msgspec.Struct):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class _Format(msgspec.Struct):
    type: str = "text"
    definition: str | None = None
    syntax: Literal["lark", "regex"] = "lark"


class _CustomTool(msgspec.Struct):
    name: str
    description: str | None = None
    format: _Format | None = None


class _Namespace(msgspec.Struct):
    name: str
    tools: list[dict[str, Any]]


class _MoreTools(msgspec.Struct):
    tools: list[dict[str, Any]]


class _Choice(msgspec.Struct):
    type: str
    name: str | None = None
    mode: Literal["auto", "required"] = "auto"
    tools: list[dict[str, Any]] | None = None


class _TextFormat(msgspec.Struct):
    type: Literal["text", "json_object", "json_schema"] = "text"
    name: str = ""
    schema: dict[str, Any] | None = None
    strict: bool | None = None


class _Text(msgspec.Struct):
    format: _TextFormat | None = None
    verbosity: str | None = None


class _Effort(msgspec.Struct):
    effort: str | None = None


class _Request(msgspec.Struct):
    input: str | list[dict[str, Any]] | None = None
    instructions: str | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: Literal["auto", "none", "required"] | _Choice | None = None
    parallel_tool_calls: bool | None = None
    reasoning: _Effort | None = None
    text: _Text | None = None
    temperature: float | None = None
    top_p: float | None = None
    metadata: dict[str, str] | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    background: bool | None = None
    top_logprobs: int | None = None
    conversation: Any = None
    prompt: Any = None


def parse(body: bytes, head: Head) -> Inbound:
    """Return what `body`, of which `head` is known, asks for; raise `BadRequest`.

    An earlier answer that `previous_response_id` names is not here: whoever keeps it puts its items before those of
    the request's transcript.
    """
    raw = decoded(body)
    asked = shaped(raw, _Request, "")
    bound = _bound(asked)
    left_out: list[str] = []
    offered = [spec for at, tools in _offered(raw) for spec in _tools(tools, at, left_out)]
    choice, name, tools = _choice(asked.tool_choice, tuple(offered), bound)
    items = _conversation(asked.input, bound)
    instructions = _instructions(asked.instructions or "", items)
    text = asked.text or _Text()
    form = text.format or _TextFormat()
    sampling = Sampling(
        tool_choice=choice,
        tool_name=name,
        temperature=asked.temperature,
        top_p=asked.top_p,
        json_object=form.type == "json_object",
        schema_name=form.name,
        schema_strict=form.strict,
        verbosity=text.verbosity,
        service_tier=asked.service_tier,
        end_user=head.end_user,
        metadata=asked.metadata,
    )
    request = ModelRequest(
        instructions=instructions,
        tools=tools,
        transcript=Transcript(items),
        thread_id=asked.prompt_cache_key or "",
        output_schema=(form.schema or {}) if form.type == "json_schema" else None,
        reasoning_effort=asked.reasoning.effort if asked.reasoning else None,
        max_output_tokens=head.max_output_tokens,
        parallel_tool_calls=asked.parallel_tool_calls is not False,
        sampling=sampling,
    )
    return Inbound("responses", head, request, raw, tuple(bound), tuple(dict.fromkeys(left_out)))


def _bound(asked: _Request) -> list[Bound]:
    wanted = {
        "background": asked.background,
        "top_logprobs": asked.top_logprobs,
        "conversation": asked.conversation,
        "prompt": asked.prompt,
    }
    return [only_here("responses", name, f"`{name}`") for name, said in wanted.items() if said]


def _choice(
    given: str | _Choice | None, tools: tuple[ToolSpec, ...], bound: list[Bound]
) -> tuple[Literal["auto", "none", "required", "tool"], str, tuple[ToolSpec, ...]]:
    match given:
        case "none" | "required":
            return given, "", tools
        case _Choice(type="allowed_tools", mode=mode, tools=allowed):
            return mode, "", allowed_tools(tools, allowed or [], "tool_choice.tools")
        case _Choice(type="function" | "custom", name=str(name)):
            return "tool", name, tools
        case _Choice(type=kind):
            bound.append(only_here("responses", "tool_choice", f"The tool choice {kind[:60]!r}"))
    return "auto", "", tools


class Spaced(NamedTuple):
    """A tool in a namespace."""

    namespace: str
    name: str

    @property
    def flat(self) -> str:
        """Its name for models and wires without namespaces, in the form that names of MCP tools have."""
        return f"{self.namespace.removesuffix('__')}__{self.name}"


def _offered(raw: Mapping[str, Any]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield the lists of tools in a request, each with its place: Codex offers them in items for its newest models."""
    yield "tools", raw.get("tools") or []
    given = raw.get("input")
    for place, item in enumerate(given if isinstance(given, list) else ()):
        if item.get("type") == _MORE_TOOLS:
            at = f"input[{place}]"
            yield f"{at}.tools", shaped(item, _MoreTools, at).tools


def spaced_tools(raw: Mapping[str, Any]) -> dict[str, Spaced]:
    """Return the tools in namespaces of a request, which `parse` has read, by their flat names."""
    spaces = [tool for _, tools in _offered(raw) for tool in tools if tool.get("type") == "namespace"]
    found = [Spaced(space["name"], tool["name"]) for space in spaces for tool in space["tools"] if "name" in tool]
    return {one.flat: one for one in found}


def _tools(tools: list[dict[str, Any]], where: str, left_out: list[str], namespace: str = "") -> Iterator[ToolSpec]:
    for place, tool in enumerate(tools):
        at = f"{where}[{place}]"
        match tool.get("type"):
            case "function" | "custom":
                spec = _tool(tool, at)
                flat = Spaced(namespace, spec.name).flat if namespace else spec.name
                yield msgspec.structs.replace(spec, name=flat)
            case "namespace" if not namespace:
                space = shaped(tool, _Namespace, at)
                yield from _tools(space.tools, f"{at}.tools", left_out, space.name)
            case str(other):
                left_out.append(other[:60])  # the endpoint itself would run it
            case _:
                raise BadRequest("invalid_type", f"`{at}.type` must be a string.", param=f"{at}.type")


def _tool(tool: dict[str, Any], where: str) -> ToolSpec:
    if tool["type"] == "function":
        function = shaped(tool, _Tool, where)
        parameters = function.parameters or {"type": "object", "properties": {}}
        return ToolSpec(function.name, function.description or "", parameters, strict=bool(function.strict))
    custom = shaped(tool, _CustomTool, where)
    form = custom.format or _Format()
    return ToolSpec(
        custom.name, custom.description or "", {}, freeform=True, grammar=form.definition, syntax=form.syntax
    )


def _conversation(given: str | list[dict[str, Any]] | None, bound: list[Bound]) -> list[Item]:
    if isinstance(given, str):
        return [Message("user", (InputText(given),))]
    return [
        _item(raw, f"input[{place}]", bound) for place, raw in enumerate(given or ()) if raw.get("type") != _MORE_TOOLS
    ]


def _instructions(given: str, items: list[Item]) -> str:
    """Take the instructions at the head of `items` out of them, and return them after those `given`.

    Codex says there what others say in `instructions`, and on another wire it is the system prompt.
    """
    words = [given] if given else []
    while items and isinstance(first := items[0], Message) and first.role in ("system", "developer"):
        if any(isinstance(part, InputImage) for part in first.content):
            break
        words.append("\n".join(text_parts(first.content)))
        del items[0]
    return "\n\n".join(words)


def _item(raw: dict[str, Any], where: str, bound: list[Bound]) -> Item:
    match raw.get("type") or ("message" if "role" in raw else None):
        case "message":
            return _message(shaped(raw, _Message, where), where, bound)
        case "reasoning":
            return _thought(shaped(raw, _Reasoning, where))
        case "function_call":
            return shaped(_named(raw), FunctionCall, where)
        case "custom_tool_call":
            return shaped(_named(raw), CustomToolCall, where)
        case "function_call_output":
            output = shaped(raw, _Output, where)
            return FunctionCallOutput(output.call_id, _output(output, where, bound))
        case "custom_tool_call_output":
            output = shaped(raw, _Output, where)
            return CustomToolCallOutput(output.call_id, _output(output, where, bound))
        case "item_reference":
            bound.append(only_here("responses", where, "A reference to a stored item"))
        case str():
            pass
        case _:
            raise BadRequest("invalid_type", f"`{where}.type` must be a string.", param=f"{where}.type")
    return OpaqueItem(raw, SOURCE)


def _named(raw: dict[str, Any]) -> dict[str, Any]:
    """Return a call's fields without those that are null, and with the flat name of its tool."""
    given = {key: value for key, value in raw.items() if value is not None}
    match given:
        case {"namespace": str(namespace), "name": str(name)} if namespace:
            given["name"] = Spaced(namespace, name).flat
    return given


def _message(message: _Message, where: str, bound: list[Bound]) -> Message:
    own = message.role == "assistant"
    content = message.content
    if isinstance(content, str):
        parts: list[ContentPart] = [InputText(content)]
    else:
        parts = _parts(content, f"{where}.content", bound)
    if own:
        parts = [OutputText(part.text) if isinstance(part, InputText) else part for part in parts]
    role: Role = "developer" if message.role == "system" else message.role
    return Message(role, tuple(parts), message.id, message.phase)


def _output(output: _Output, where: str, bound: list[Bound]) -> str | tuple[ContentPart, ...]:
    if isinstance(output.output, str):
        return output.output
    return tuple(_parts(output.output, f"{where}.output", bound))


def _parts(content: list[dict[str, Any]], where: str, bound: list[Bound]) -> list[ContentPart]:
    parts: list[ContentPart] = []
    for place, part in enumerate(content):
        at = f"{where}[{place}]"
        match part.get("type"):
            case "input_text" | "output_text" | "text":
                parts.append(InputText(shaped(part, _Words, at).text))
            case "refusal":
                parts.append(Refusal(shaped(part, _Refused, at).refusal))
            case "input_image" if part.get("image_url") is not None:
                image = shaped(part, _Image, at)
                parts.append(InputImage(image.image_url or "", image.detail))
            case other:
                bound.append(only_here("responses", at, f"Content of the type {str(other)[:60]!r}"))
    return parts


def _thought(thought: _Reasoning) -> Reasoning:
    kept = opened(thought.encrypted_content or "")
    if kept is not None:
        return kept
    return Reasoning(
        summary=tuple(SummaryText(part.text) for part in thought.summary or ()),
        content=tuple(ReasoningText(part.text) for part in thought.content or ()),
        encrypted_content=thought.encrypted_content,
        id=thought.id,
        source=SOURCE,
    )
