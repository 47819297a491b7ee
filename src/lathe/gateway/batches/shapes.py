"""Batches, files and answers as the vendors' APIs show them.

The shapes are those of OpenAI's and Anthropic's references (platform.openai.com/docs/api-reference/batch and /files,
docs.anthropic.com/en/api/creating-message-batches).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from lathe.gateway.batches.batch import Batch, Ended
from lathe.gateway.batches.files import File

_OPENAI_TIMES = (
    *("in_progress_at", "finalizing_at", "completed_at", "failed_at", "expired_at", "cancelling_at", "cancelled_at"),
)
_WHY = {
    "cancelled": ("batch_cancelled", "The batch was cancelled before this request began."),
    "expired": ("batch_expired", "This request could not be executed before the completion window expired."),
}


def show_file(file: File) -> dict[str, Any]:
    """Return OpenAI's object of a file."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": file.created // 1000,
        "expires_at": file.expires // 1000 if file.expires is not None else None,
        "filename": file.name,
        "purpose": file.purpose,
        "status": "processed",
    }


def show_batch(batch: Batch, counts: Mapping[str, int]) -> dict[str, Any]:
    """Return OpenAI's object of a batch; `counts` are its lines by state."""
    body = batch.body
    faults = [msgspec.to_builtins(fault) for fault in body.faults]
    ended = batch.state in ("completed", "expired", "cancelled")
    finishing = batch.state == "finalizing" and body.outcome == "cancelled"
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": body.endpoint,
        "model": body.models[0] if len(body.models) == 1 else None,
        "errors": {"object": "list", "data": faults} if faults else None,
        "input_file_id": body.input_file,
        "completion_window": "24h",
        "status": "cancelling" if finishing else batch.state,
        "output_file_id": body.output_file or None if ended else None,
        "error_file_id": body.error_file or None if ended else None,
        "created_at": batch.created // 1000,
        "expires_at": batch.deadline // 1000,
        **{name: body.times[name] // 1000 if name in body.times else None for name in _OPENAI_TIMES},
        "request_counts": {
            "total": body.total,
            "completed": counts.get("done", 0),
            "failed": sum(counts.get(state, 0) for state in ("failed", "expired", "cancelled")),
        },
        "metadata": body.metadata,
        **({"lathe": {"waits_for": batch.note}} if batch.note else {}),
    }


def show_message_batch(batch: Batch, counts: Mapping[str, int], base: str) -> dict[str, Any]:
    """Return Anthropic's object of a batch; `base` is the gateway's address, for the URL of the results.

    As in the vendor's, requests are counted as processing until all have ended.
    """
    times = batch.body.times
    ended = batch.state in ("completed", "failed", "expired", "cancelled")
    cancelled = "cancelling_at" in times
    names = {"succeeded": "done", "errored": "failed", "canceled": "cancelled", "expired": "expired"}
    told = {name: counts.get(state, 0) if ended else 0 for name, state in names.items()}
    at = next((times[name] for name in ("completed_at", "failed_at", "expired_at", "cancelled_at") if name in times), 0)
    return {
        "id": batch.id,
        "type": "message_batch",
        "processing_status": "ended" if ended else "canceling" if cancelled else "in_progress",
        "request_counts": {"processing": 0 if ended else batch.body.total, **told},
        "created_at": _date(batch.created),
        "expires_at": _date(batch.deadline),
        "ended_at": _date(at) if ended else None,
        "cancel_initiated_at": _date(times["cancelling_at"]) if cancelled else None,
        "archived_at": None,
        "results_url": f"{base}/v1/messages/batches/{batch.id}/results" if ended else None,
        **({"lathe": {"waits_for": batch.note}} if batch.note else {}),
    }


def output_line(batch: Batch, line: Ended) -> bytes:
    """Return a line of OpenAI's output or error file."""
    said: dict[str, Any] = {"id": f"batch_req_{batch.id.partition('_')[2]}_{line.number}", "custom_id": line.custom_id}
    if line.state in _WHY:
        code, message = _WHY[line.state]
        said |= {"response": None, "error": {"code": code, "message": message}}
    else:
        answer = {"status_code": line.status, "request_id": line.asked, "body": _json(line.answer)}
        said |= {"response": answer, "error": None}
    if line.tries > 1:
        said["lathe"] = {"tries": line.tries}
    return msgspec.json.encode(said) + b"\n"


def result_line(batch: Batch, line: Ended) -> bytes:
    """Return a line of Anthropic's results."""
    result: dict[str, Any]
    match line.state:
        case "done":
            result = {"type": "succeeded", "message": _json(line.answer)}
        case "cancelled":
            result = {"type": "canceled"}
        case "expired":
            result = {"type": "expired"}
        case _:
            result = {"type": "errored", "error": _json(line.answer)}
    said: dict[str, Any] = {"custom_id": line.custom_id, "result": result}
    if line.tries > 1:
        said["lathe"] = {"tries": line.tries}
    return msgspec.json.encode(said) + b"\n"


def _json(answer: str) -> Any:
    """Return an answer to be put into a line, which has no line ends of its own."""
    try:
        return msgspec.Raw(msgspec.json.format(answer, indent=-1).encode())
    except msgspec.DecodeError:
        return answer


def _date(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
