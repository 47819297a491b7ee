"""`/v1/responses/compact` for any model: a conversation becomes its person's messages and one sealed item.

The upstream's own is asked where it speaks the Responses wire and has one. Elsewhere the model itself writes the
hand-over, as Lathe's agent has it do; the item carries it encrypted with a key of the installation, bound to the
project, and the gateway opens it again when it comes back as input, for whatever upstream.
"""

from __future__ import annotations

import base64
import hashlib
import os
from typing import Any

import msgspec

from lathe.gateway.front import Lines

_PREFIX = "lathe1."
SEALED = b"lathe1."
"""What a body has somewhere that may hold an item which was sealed here."""
_NONCE = 12
_OPENING = "The conversation so far was shortened to what follows."


class Sealer:
    """Seals hand-overs and opens them again; `secret` is the installation's."""

    def __init__(self, secret: bytes) -> None:
        self._key = hashlib.sha256(b"compaction\0" + secret).digest()

    def seal(self, project: str, text: str) -> str:
        """Return what only this installation can read, and only for this project."""
        nonce = os.urandom(_NONCE)
        sealed = self._cipher().encrypt(nonce, text.encode("utf-8", "replace"), project.encode())
        return _PREFIX + base64.urlsafe_b64encode(nonce + sealed).decode()

    def open(self, project: str, sealed: str) -> str | None:
        """Return the text, None where it was sealed by another, for another project, or has been changed."""
        from cryptography.exceptions import InvalidTag

        if not sealed.startswith(_PREFIX):
            return None
        try:
            data = base64.urlsafe_b64decode(sealed[len(_PREFIX) :])
            text: bytes = self._cipher().decrypt(data[:_NONCE], data[_NONCE:], project.encode())
            return text.decode()
        except (ValueError, InvalidTag):
            return None

    def opened(self, project: str, items: list[msgspec.Raw]) -> list[msgspec.Raw]:
        """Return `items` with the hand-overs that were sealed here as messages that any model can read."""
        return [self._opened(project, item) if SEALED in bytes(item) else item for item in items]

    def _opened(self, project: str, raw: msgspec.Raw) -> msgspec.Raw:
        item: Any = msgspec.json.decode(raw)
        if not isinstance(item, dict) or item.get("type") not in ("compaction", "compaction_summary"):
            return raw
        text = self.open(project, str(item.get("encrypted_content") or ""))
        return raw if text is None else msgspec.Raw(msgspec.json.encode(message("developer", text)))

    def _cipher(self) -> Any:
        from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

        return ChaCha20Poly1305(self._key)


def message(role: str, text: str) -> dict[str, Any]:
    """Return an item with words."""
    return {"type": "message", "role": role, "content": [{"type": "input_text", "text": text}]}


def request_for_summary(body: dict[str, Any], items: list[Any]) -> dict[str, Any]:
    """Return the request that asks the model for the hand-over."""
    from lathe.agent.compaction import compact_prompt

    asked = {"model": body["model"], "input": [*items, message("user", compact_prompt())], "stream": False}
    if isinstance(body.get("instructions"), str):
        asked["instructions"] = body["instructions"]
    return asked


def compacted(items: list[Any], answer: dict[str, Any], sealed: str) -> dict[str, Any]:
    """Return the answer to a request to compact `items`: the person's messages, and the sealed item."""
    said = [one for one in items if isinstance(one, dict) and one.get("role") == "user"]
    number = str(answer.get("id", "")).removeprefix("resp_")
    return {
        "id": f"resp_{number}",
        "object": "response.compaction",
        "created_at": answer.get("created_at", 0),
        "output": [*said, {"type": "compaction", "id": f"cmp_{number}", "encrypted_content": sealed}],
        "usage": answer.get("usage"),
        **({"lathe": answer["lathe"]} if "lathe" in answer else {}),
    }


def handover(text: str) -> str:
    """Return the words under which a hand-over stands in the new conversation."""
    return f"<context_compacted>{_OPENING}</context_compacted>\n<handover>\n{text}\n</handover>"


def text_of(answer: dict[str, Any]) -> str:
    """Return what a Responses answer says."""
    parts = [
        part.get("text", "")
        for item in answer.get("output") or ()
        if isinstance(item, dict) and item.get("type") == "message"
        for part in item.get("content") or ()
        if isinstance(part, dict)
    ]
    return "\n".join(part for part in parts if isinstance(part, str)).strip()


class Captured:
    """A sink that keeps an answer."""

    def __init__(self) -> None:
        self.started = False
        self.status = 0
        self.lines: Lines = ()
        self.body = b""

    async def start(self, status: int, lines: Lines) -> None:
        """See `front.Sink.start`."""
        self.started, self.status, self.lines = True, status, lines

    async def send(self, data: bytes) -> None:
        """See `front.Sink.send`."""
        self.body += data

    async def end(self, data: bytes = b"") -> None:
        """See `front.Sink.end`."""
        self.body += data
