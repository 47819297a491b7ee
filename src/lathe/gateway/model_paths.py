"""The model endpoints in the OpenAPI document: what the vendors' references describe is named, not repeated."""

from __future__ import annotations

from typing import Any

_ANYTHING: dict[str, Any] = {"type": "object"}
_MESSAGES: dict[str, Any] = {
    "type": "object",
    "required": ["model", "messages"],
    "properties": {
        "model": {"type": "string"},
        "messages": {"type": "array", "items": {"type": "object"}},
        "stream": {"type": "boolean"},
        "max_tokens": {"type": "integer", "minimum": 1},
        "lathe": {
            "type": "object",
            "properties": {
                "program": {"type": "string"},
                "engagement": {"type": "string"},
                "no_fallback": {"type": "boolean"},
            },
            "additionalProperties": False,
        },
    },
}
_INPUT: dict[str, Any] = {
    "type": "object",
    "required": ["model"],
    "properties": {
        "model": {"type": "string"},
        "input": {"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}]},
        "previous_response_id": {"type": "string"},
        "store": {"type": "boolean"},
        "stream": {"type": "boolean"},
        "lathe": _MESSAGES["properties"]["lathe"],
    },
}
_ERRORS = (400, 401, 403, 404, 405, 408, 409, 413, 415, 429, 502, 503, 504)
ID = {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}


def model_paths() -> dict[str, Any]:
    """Return the path items (OpenAPI 3.1) of the endpoints that the relay serves."""
    stream = {"text/event-stream": {"schema": {"type": "string"}}}
    return {
        "/v1/responses": {"post": operation("responses", "Ask a model, as OpenAI's Responses API.", _INPUT, stream)},
        "/v1/responses/compact": {"post": operation("compact", "Shorten a conversation.", _INPUT)},
        "/v1/responses/{id}": {
            "get": operation("stored_response", "A stored response.", parameters=[ID]),
            "delete": operation("delete_response", "Delete a stored response.", parameters=[ID]),
        },
        "/v1/responses/{id}/input_items": {
            "get": operation("input_items", "What was new in its input.", parameters=[ID])
        },
        "/v1/chat/completions": {
            "post": operation("chat", "Ask a model, as OpenAI's Chat Completions API.", _MESSAGES, stream)
        },
        "/v1/messages": {"post": operation("messages", "Ask a model, as Anthropic's Messages API.", _MESSAGES, stream)},
        "/v1/messages/count_tokens": {"post": operation("count_tokens", "Count a request's tokens.", _MESSAGES)},
        "/v1/models": {"get": operation("models", "The models, and whether they are open to the caller.")},
    }


def operation(
    name: str,
    summary: str,
    body: dict[str, Any] | None = None,
    more: dict[str, Any] | None = None,
    parameters: list[dict[str, Any]] | None = None,
    *,
    form: bool = False,
) -> dict[str, Any]:
    """Return an operation that takes JSON, or with `form` a form, and gives JSON, or what `more` says besides."""
    content = {"application/json": {"schema": _ANYTHING}}
    found: dict[str, Any] = {
        "operationId": name,
        "summary": summary,
        "responses": {
            "200": {"description": "The answer.", "content": {**content, **(more or {})}},
            **{str(status): {"description": "An error, in the dialect.", "content": content} for status in _ERRORS},
        },
    }
    if body is not None:
        kind = "multipart/form-data" if form else "application/json"
        found["requestBody"] = {"required": True, "content": {kind: {"schema": body}}}
    if parameters:
        found["parameters"] = parameters
    return found
