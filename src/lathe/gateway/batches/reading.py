"""The lines of a file as requests, and what is wrong with them.

The form is that of OpenAI's batch files (platform.openai.com/docs/guides/batch); what comes in by Anthropic's API is
put into it.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

import msgspec

from lathe.gateway.batches.batch import Fault, NewLine
from lathe.gateway.dialects import DIALECTS
from lathe.models.provider import WireName

_MOST_NAME = 200
_MOST_ID = 512


class _Line(msgspec.Struct):
    custom_id: Any = None
    method: Any = None
    url: Any = None
    body: msgspec.Raw = msgspec.Raw()


class _Asked(msgspec.Struct):
    model: Any = None
    stream: Any = None


_line = msgspec.json.Decoder(_Line)
_asked = msgspec.json.Decoder(_Asked)


class LineFault(Exception):
    """A line that no batch may have."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param

    def at(self, line: int) -> Fault:
        """Return it as a fault of a line."""
        return Fault(self.code, self.message, line, self.param)


async def lines_of(chunks: AsyncIterable[bytes], most: int) -> AsyncIterator[tuple[int, bytes]]:
    """Yield the lines of a file with their numbers from 1, empty ones left out; of a longer one `most` + 1 bytes."""
    held, number = bytearray(), 1
    async for chunk in chunks:
        first, *rest = chunk.split(b"\n")
        held += first[: most + 1 - len(held)]
        for begun in rest:
            if held.strip():
                yield number, bytes(held)
            held, number = bytearray(begun[: most + 1]), number + 1
    if held.strip():
        yield number, bytes(held)


def read_line(number: int, data: bytes, endpoint: str, wire: WireName, most: int) -> NewLine:
    """Return a line as it is asked later; `most` is how many bytes a request may have. Raises `LineFault`.

    What only the request itself is wrong in is no fault: the line then has failed, and says why.
    """
    if len(data) > most:
        raise LineFault("request_too_large", f"The line is larger than {most >> 20} MB.")
    try:
        text = data.decode()
        line = _line.decode(text)
    except UnicodeDecodeError:
        raise LineFault("invalid_json_line", "The line is no UTF-8.") from None
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError):
        raise LineFault("invalid_json_line", "The line is no JSON object.") from None
    custom_id = line.custom_id
    if not isinstance(custom_id, str) or not 0 < len(custom_id) <= _MOST_ID or "\0" in custom_id:
        message = f"The line needs a `custom_id`, a string of at most {_MOST_ID} characters."
        raise LineFault("missing_required_parameter", message, "custom_id")
    if line.method != "POST":
        raise LineFault("invalid_method", "The `method` of a line must be POST.", "method")
    if line.url != endpoint:
        raise LineFault("invalid_url", f"The `url` of the line is not the batch's endpoint, {endpoint}.", "url")
    if not bytes(line.body):
        raise LineFault("missing_required_parameter", "The line has no `body`.", "body")
    return _request(number, custom_id, bytes(line.body).decode(), wire)


def _request(number: int, custom_id: str, body: str, wire: WireName) -> NewLine:
    try:
        asked = _asked.decode(body)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError):
        return _failed(number, custom_id, wire, "The body of the line must be a JSON object.")
    if asked.stream:
        return _failed(number, custom_id, wire, "A line of a batch can't be streamed: leave out `stream`.", "stream")
    name = asked.model
    if not isinstance(name, str) or not 0 < len(name) <= _MOST_NAME or "\0" in body:
        return _failed(number, custom_id, wire, "The line names no model.", "model")
    return NewLine(number, custom_id, name, body)


def _failed(number: int, custom_id: str, wire: WireName, message: str, param: str | None = None) -> NewLine:
    answer = DIALECTS[wire].error(400, "invalid_request", message, param=param).decode()
    return NewLine(number, custom_id, "", "", "failed", 400, answer)
