"""The three dialects at the gateway's front, each with the same face. No HTTP and no waiting here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lathe.gateway.dialects import chat, messages, responses
from lathe.gateway.dialects.base import BadRequest, Bound, Head, Inbound, Options, Writer
from lathe.gateway.dialects.chat_writer import ChatWriter
from lathe.gateway.dialects.errors import Refused, error_body, error_event, refused
from lathe.gateway.dialects.extension import extend_body, extend_event
from lathe.gateway.dialects.head import read_head, retitled
from lathe.gateway.dialects.messages_writer import MessagesWriter
from lathe.gateway.dialects.reading import check_carried
from lathe.gateway.dialects.responses_writer import ResponsesWriter
from lathe.gateway.dialects.tokens import estimate_tokens
from lathe.gateway.dialects.watcher import Told, Watcher, read_answer
from lathe.models.provider import WireName
from lathe.models.retry import Failure

__all__ = [
    "DIALECTS",
    "BadRequest",
    "Bound",
    "Dialect",
    "Head",
    "Inbound",
    "Options",
    "Refused",
    "Told",
    "Watcher",
    "Writer",
    "estimate_tokens",
]

_PARSERS = {"responses": responses.parse, "chat": chat.parse, "messages": messages.parse}
_IDS = {"responses": "resp_", "chat": "chatcmpl-", "messages": "msg_"}


class Dialect:
    """One wire's words for callers: what they send is read, and what they are sent is written."""

    def __init__(self, wire: WireName) -> None:
        self.wire = wire

    # The way through, where the upstream speaks the caller's wire.

    def head(self, body: bytes) -> Head:
        """Return what must be known of a request that passes through; raise `BadRequest`."""
        return read_head(self.wire, body)

    def retitle(self, body: bytes, model: str, head: Head, *, ask_usage: bool = False) -> bytes:
        """Return `body` for an upstream that calls the model `model`, without what is the gateway's own.

        With `ask_usage` a Chat stream is asked for its usage too: the caller's watcher then drops it.
        """
        return retitled(self.wire, body, head, model, ask_usage=ask_usage)

    def watcher(self, *, drop_usage: bool = False) -> Watcher:
        """Return what reads along with one stream that passes through."""
        return Watcher(self.wire, drop_usage=drop_usage)

    def read_answer(self, body: bytes) -> Told:
        """Return model, id and usage of a whole answer that passes through."""
        return read_answer(self.wire, body)

    def extend_event(self, event: bytes, extension: bytes) -> bytes:
        """Return a stream's last event with the gateway's field `lathe`."""
        return extend_event(self.wire, event, extension)

    def extend_body(self, body: bytes, extension: bytes) -> bytes:
        """Return a whole answer with the gateway's field `lathe`."""
        return extend_body(body, extension)

    # The way across, where the upstream speaks another wire.

    def parse(self, body: bytes, head: Head | None = None) -> Inbound:
        """Return what a request asks of a model; raise `BadRequest`. `head` is its head where that is known."""
        return _PARSERS[self.wire](body, head or self.head(body))

    def check_carried(self, inbound: Inbound, upstream: WireName) -> None:
        """Raise `BadRequest` for what an upstream that speaks `upstream` cannot be asked."""
        check_carried(inbound, upstream)

    def writer(self, inbound: Inbound, response_id: str, model: str, upstream: WireName) -> Writer:
        """Return what writes the answer to `inbound`, given by an upstream that speaks `upstream`.

        `model` is what the caller is told served it.
        """
        if self.wire == "responses":
            return ResponsesWriter(inbound, response_id, model)
        if self.wire == "messages":
            return MessagesWriter(response_id, model, upstream)
        return ChatWriter(inbound, response_id, model)

    def response_id(self, unique: str) -> str:
        """Return `unique` as an id of the kind that this dialect's answers have."""
        return _IDS[self.wire] + unique

    # Errors.

    def error(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> bytes:
        """Return the JSON body of an error; `extra` stands with the code in the error's object `lathe`."""
        return error_body(self.wire, status, code, message, param=param, extra=extra)

    def error_event(self, status: int, code: str, message: str, **rest: Any) -> bytes:
        """Return the SSE event that ends a stream with an error; see `errors.error_event`."""
        return error_event(self.wire, status, code, message, **rest)

    def refused(self, failure: Failure, model: str) -> Refused:
        """Return what the caller is told of an upstream's failure."""
        return refused(failure, self.wire, model)


DIALECTS: dict[WireName, Dialect] = {
    "responses": Dialect("responses"),
    "chat": Dialect("chat"),
    "messages": Dialect("messages"),
}
