"""Files and batches in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from lathe.gateway.batches.batch import ENDPOINTS
from lathe.gateway.model_paths import ID, operation

_FILE: dict[str, Any] = {
    "type": "object",
    "required": ["file", "purpose"],
    "properties": {
        "file": {"type": "string", "contentMediaType": "application/octet-stream"},
        "purpose": {"enum": ["batch"]},
    },
}
_BATCH: dict[str, Any] = {
    "type": "object",
    "required": ["input_file_id", "endpoint", "completion_window"],
    "properties": {
        "input_file_id": {"type": "string"},
        "endpoint": {"enum": list(ENDPOINTS)},
        "completion_window": {"enum": ["24h"]},
        "metadata": {"type": "object", "additionalProperties": {"type": "string", "maxLength": 512}},
        "output_expires_after": {
            "type": "object",
            "required": ["anchor", "seconds"],
            "properties": {
                "anchor": {"enum": ["created_at"]},
                "seconds": {"type": "integer", "minimum": 3600, "maximum": 2_592_000},
            },
        },
    },
}
_REQUEST: dict[str, Any] = {
    "type": "object",
    "required": ["custom_id", "params"],
    "properties": {
        "custom_id": {"type": "string", "pattern": "^[a-zA-Z0-9_-]{1,64}$"},
        "params": {"type": "object"},
    },
}
_MESSAGES: dict[str, Any] = {
    "type": "object",
    "required": ["requests"],
    "properties": {"requests": {"type": "array", "minItems": 1, "items": _REQUEST}},
}


def batch_paths() -> dict[str, Any]:
    """Return the path items (OpenAPI 3.1) of files and batches."""
    one = [ID]
    return {
        "/v1/files": {
            "post": operation("upload_file", "Upload the requests of a batch.", _FILE, form=True),
            "get": operation("files", "The files.", parameters=_page("after", "purpose")),
        },
        "/v1/files/{id}": {
            "get": operation("file", "A file.", parameters=one),
            "delete": operation("delete_file", "Delete a file.", parameters=one),
        },
        "/v1/files/{id}/content": {
            "get": operation("file_content", "What a file holds.", more=_lines("octet-stream"), parameters=one)
        },
        "/v1/batches": {
            "post": operation("create_batch", "Have the requests of a file answered within a day.", _BATCH),
            "get": operation("batches", "The batches.", parameters=_page("after")),
        },
        "/v1/batches/{id}": {"get": operation("batch", "A batch.", parameters=one)},
        "/v1/batches/{id}/cancel": {"post": operation("cancel_batch", "Cancel a batch.", parameters=one)},
        "/v1/messages/batches": {
            "post": operation("create_message_batch", "Have requests answered within a day.", _MESSAGES),
            "get": operation("message_batches", "The batches.", parameters=_page("after_id", "before_id")),
        },
        "/v1/messages/batches/{id}": {
            "get": operation("message_batch", "A batch.", parameters=one),
            "delete": operation("delete_message_batch", "Delete a batch that has ended.", parameters=one),
        },
        "/v1/messages/batches/{id}/cancel": {
            "post": operation("cancel_message_batch", "Cancel a batch.", parameters=one)
        },
        "/v1/messages/batches/{id}/results": {
            "get": operation("message_batch_results", "The answers.", more=_lines("x-jsonl"), parameters=one)
        },
    }


def _lines(kind: str) -> dict[str, Any]:
    return {f"application/{kind}": {"schema": {"type": "string"}}}


def _page(*names: str) -> list[dict[str, Any]]:
    limit = {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 100}}
    return [limit, *({"name": name, "in": "query", "schema": {"type": "string"}} for name in names)]
