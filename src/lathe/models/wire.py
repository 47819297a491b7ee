"""What the three wires share: the incremental encoder of a transcript, tools, and the shape of a wire."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import msgspec

from lathe.models.base import ModelPart, ModelRequest, ToolSpec, Transcript
from lathe.models.catalogue import ModelInfo, Quirks
from lathe.models.http import Fragment
from lathe.models.retry import BrokenStream
from lathe.models.sse import SseEvent
from lathe.protocol.ids import short_id
from lathe.protocol.items import (
    ContentPart,
    CustomToolCall,
    FunctionCall,
    InputImage,
    InputText,
    Item,
    OutputText,
    Refusal,
    ToolCall,
)

DECLINED = "The model declined to answer."
"""A refusal's words where the endpoint gives none."""

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder()


class WireSetup(NamedTuple):
    """What a wire knows from the start."""

    model: ModelInfo
    quirks: Quirks
    key: str


class StreamDecoder(Protocol):
    """Turns the events of one answer into parts; raises `BrokenStream` and `EndpointError`."""

    finished: bool
    """Whether `Completed` was given."""

    def feed(self, event: SseEvent) -> Sequence[ModelPart]: ...

    def close(self) -> Sequence[ModelPart]:
        """Return what is left when the stream ends; raise `BrokenStream` where it ended too soon."""
        ...


class Wire(Protocol):
    """One format of requests and streams, for one thread at a time."""

    path: str
    """Where to post, under the provider's base URL."""

    def auth(self) -> Sequence[tuple[str, str]]:
        """Return the headers with the key and the protocol's version."""
        ...

    def encode(self, request: ModelRequest) -> list[Fragment]:
        """Return the body, in pieces; work grows with the items that are new since the last call."""
        ...

    def decoder(self, request: ModelRequest) -> StreamDecoder: ...


def dumps(value: Any) -> bytes:
    """Return `value` as JSON. Lone surrogates (bytes that were no UTF-8) become replacement characters."""
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError:
        return _encoder.encode(_scrubbed(msgspec.to_builtins(value)))


def _scrubbed(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_scrubbed(key): _scrubbed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_scrubbed(item) for item in value]
    return value


def loads(data: str) -> dict[str, Any]:
    """Return the JSON object of an event; raise `BrokenStream`."""
    try:
        value = _decoder.decode(data)
    except msgspec.DecodeError as error:
        raise BrokenStream(f"the stream has an event that is no JSON ({error})") from None
    if not isinstance(value, dict):
        raise BrokenStream("the stream has an event that is no JSON object")
    return value


Joins: TypeAlias = Callable[[Item, Item], bool]
EncodeGroup: TypeAlias = Callable[[Sequence[Item]], Sequence[bytes]]


class GrowingInput:
    """The encoded items of a transcript; each is encoded once, however many requests carry it.

    Items that a wire folds into one message form a group: `joins(a, b)` says whether `b` goes on with the group
    that ends in `a`. Only the last group can still grow, so the bytes are a function of the items alone, never
    of when requests were made, and a request's input begins with the previous one's.
    """

    def __init__(self, joins: Joins, encode: EncodeGroup) -> None:
        self._joins = joins
        self._encode = encode
        self._transcript: Transcript | None = None
        self._start_over()

    def _start_over(self) -> None:
        self._closed = bytearray()
        self._seen = 0
        self._generation = 0
        self._group: list[Item] = []
        self._tail: bytes | None = None

    def fragments(self, transcript: Transcript) -> list[Fragment]:
        """Return the values with commas between them, in two pieces."""
        current = transcript is self._transcript and transcript.generation == self._generation
        if not current or len(transcript.items) < self._seen:
            self._start_over()
            self._transcript, self._generation = transcript, transcript.generation
        for item in transcript.items[self._seen :]:
            if self._group and not self._joins(self._group[-1], item):
                self._close()
            self._group.append(item)
            self._tail = None
        self._seen = len(transcript.items)
        return [self._closed, self._encoded()]

    def _encoded(self) -> bytes:
        if self._tail is None:
            values = self._encode(self._group) if self._group else ()
            lead = b"," if self._closed and values else b""
            self._tail = lead + b",".join(values)
        return self._tail

    def _close(self) -> None:
        self._closed += self._encoded()
        self._group.clear()
        self._tail = None


class CallIds:
    """Keeps the ids of calls apart: some servers count them from 0 in every answer, or leave them out."""

    def __init__(self) -> None:
        self._transcript: Transcript | None = None
        self._generation = 0
        self._seen = 0
        self._taken: set[str] = set()
        self._here: set[str] = set()

    def begin(self, transcript: Transcript) -> None:
        """Start on an answer to `transcript`; looks at its new items only."""
        self._here.clear()
        if transcript is not self._transcript or transcript.generation != self._generation:
            self._transcript, self._generation, self._seen = transcript, transcript.generation, 0
            self._taken.clear()
        new = transcript.items[self._seen :]
        self._taken.update(item.call_id for item in new if isinstance(item, FunctionCall | CustomToolCall))
        self._seen = len(transcript.items)

    def settle(self, item: Item) -> Item:
        """Return `item`; a call whose id is empty or taken gets a new one."""
        if not isinstance(item, FunctionCall | CustomToolCall):
            return item
        if not item.call_id or item.call_id in self._taken or item.call_id in self._here:
            item = msgspec.structs.replace(item, call_id=short_id("call"))
        self._here.add(item.call_id)
        return item


def apart(_before: Item, _item: Item) -> bool:
    """Say that no item joins another."""
    return False


class ToolTable:
    """The tools of a request: encoded once while they stay the same, and which of them are freeform."""

    def __init__(self, encode: Callable[[ToolSpec], Any]) -> None:
        self._encode = encode
        self._tools: tuple[ToolSpec, ...] | None = None
        self._json = b"[]"
        self.freeform: frozenset[str] = frozenset()

    def json(self, tools: tuple[ToolSpec, ...]) -> bytes:
        """Return the tools as a JSON array."""
        if tools is not self._tools:
            self._tools = tools
            self._json = dumps([self._encode(tool) for tool in tools])
            self.freeform = frozenset(tool.name for tool in tools if tool.freeform)
        return self._json


FREEFORM_PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {"input": {"type": "string", "description": "The text for the tool, exactly as it should be."}},
    "required": ["input"],
    "additionalProperties": False,
}


def call_of(name: str, call_id: str, arguments: str, freeform: frozenset[str], item_id: str | None = None) -> ToolCall:
    """Return the call that a function call stands for: a custom one if its tool is freeform.

    A freeform tool's text is what stands in `input`, or all of it where the model forgot the JSON around it.
    """
    if name not in freeform:
        return FunctionCall(call_id=call_id, name=name, arguments=arguments or "{}", id=item_id)
    try:
        value = _decoder.decode(arguments)
    except msgspec.DecodeError:
        value = None
    text = value.get("input") if isinstance(value, dict) else value
    return CustomToolCall(call_id=call_id, name=name, input=text if isinstance(text, str) else arguments, id=item_id)


def arguments_of(call: ToolCall) -> str:
    """Return a call's arguments as the text of a JSON object, whatever the model wrote.

    Chat templates and the Messages wire parse what is sent back, so text that is no object is wrapped in one.
    """
    if isinstance(call, CustomToolCall):
        return dumps({"input": call.input}).decode()
    try:
        if isinstance(_decoder.decode(call.arguments), dict):
            return call.arguments
    except (msgspec.DecodeError, UnicodeEncodeError):
        pass
    return dumps({"malformed_arguments": call.arguments}).decode()


def text_parts(parts: Sequence[ContentPart]) -> list[str]:
    """Return the texts of `parts`, images left out."""
    texts = []
    for part in parts:
        match part:
            case InputText(text=text) | OutputText(text=text) | Refusal(refusal=text):
                texts.append(text)
            case InputImage():
                pass
    return texts


IMAGE_OMITTED = "[An image stood here; this model takes none.]"


def without_images(parts: Sequence[ContentPart]) -> list[ContentPart]:
    """Return `parts` with a note in the place of each image."""
    return [InputText(IMAGE_OMITTED) if isinstance(part, InputImage) else part for part in parts]


def is_strict(schema: Any) -> bool:
    """Return whether `schema` is of the subset that strict structured output takes.

    That is: every object closed, with all its properties required
    (OpenAI, "Structured Outputs", supported schemas).
    """
    if isinstance(schema, list):
        return all(map(is_strict, schema))
    if not isinstance(schema, dict):
        return True
    if schema.get("type") == "object" or "properties" in schema:
        names = set(schema.get("properties") or ())
        if schema.get("additionalProperties") is not False or set(schema.get("required") or ()) != names:
            return False
        return all(map(is_strict, (schema.get("properties") or {}).values()))
    return all(is_strict(value) for key, value in schema.items() if key not in ("enum", "const", "default", "required"))
