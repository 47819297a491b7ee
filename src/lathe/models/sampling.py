"""How an answer is made, in the fields of each wire."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lathe.models.base import ModelRequest, Sampling, ToolSpec
from lathe.models.provider import WireName
from lathe.models.wire import is_strict


def unsaid(sampling: Sampling, wire: WireName) -> list[str]:
    """Return the fields of `sampling` that change the answer and that `wire` has no words for.

    Hints are not among them: a seed, a service tier, verbosity, top_k, who the end user is, metadata.
    """
    missing = {
        "responses": ("stop", "presence_penalty", "frequency_penalty"),
        "chat": (),
        "messages": ("json_object", "presence_penalty", "frequency_penalty"),
    }[wire]
    return [name for name in missing if getattr(sampling, name)]


def schema_form(request: ModelRequest) -> dict[str, Any]:
    """Return name, schema and strictness of the request's output schema, as OpenAI's two wires want them."""
    schema, sampling = request.output_schema or {}, request.sampling or Sampling()
    strict = is_strict(schema) if sampling.schema_strict is None else sampling.schema_strict
    return {"name": sampling.schema_name or "output", "schema": schema, "strict": strict}


def for_responses(sampling: Sampling, tools: Sequence[ToolSpec], freeform: bool) -> dict[str, Any]:
    """Return the fields of a Responses request; `freeform` says whether the endpoint has custom tools."""
    fields: dict[str, Any] = {"tool_choice": sampling.tool_choice}
    if sampling.tool_choice == "tool":
        custom = freeform and any(tool.freeform for tool in tools if tool.name == sampling.tool_name)
        fields["tool_choice"] = {"type": "custom" if custom else "function", "name": sampling.tool_name}
    fields |= _given(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        service_tier=sampling.service_tier,
        safety_identifier=sampling.end_user or None,
        metadata=sampling.metadata,
    )
    return fields


def for_chat(sampling: Sampling) -> dict[str, Any]:
    """Return the fields of a Chat Completions request."""
    fields = _given(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        stop=sampling.stop or None,
        seed=sampling.seed,
        verbosity=sampling.verbosity,
        service_tier=sampling.service_tier,
        user=sampling.end_user or None,
    )
    if sampling.json_object:
        fields["response_format"] = {"type": "json_object"}
    if sampling.tool_choice == "tool":
        fields["tool_choice"] = {"type": "function", "function": {"name": sampling.tool_name}}
    elif sampling.tool_choice != "auto":
        fields["tool_choice"] = sampling.tool_choice
    return fields


def for_messages(sampling: Sampling, parallel: bool) -> dict[str, Any]:
    """Return the fields of a Messages request; not `parallel` asks for one call at most."""
    fields = _given(
        temperature=None if sampling.temperature is None else min(sampling.temperature, 1.0),
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        stop_sequences=sampling.stop or None,
        metadata={"user_id": sampling.end_user} if sampling.end_user else None,
    )
    match sampling.tool_choice:
        case "tool":
            fields["tool_choice"] = {"type": "tool", "name": sampling.tool_name}
        case "required":
            fields["tool_choice"] = {"type": "any"}
        case "none":
            fields["tool_choice"] = {"type": "none"}
    if not parallel and sampling.tool_choice != "none":
        fields["tool_choice"] = {**fields.get("tool_choice", {"type": "auto"}), "disable_parallel_tool_use": True}
    return fields


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
