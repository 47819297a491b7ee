"""What every model client is: a request goes in, a stream of parts comes out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any, Literal, Protocol, TypeAlias

import msgspec

from lathe.protocol.items import Item
from lathe.protocol.usage import Usage


class ToolSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tool as a model sees it.

    `parameters` is a JSON Schema object. With `freeform` the tool takes plain text where the wire has such
    tools (`grammar` is its Lark grammar there), and elsewhere a function with one string parameter `input`.
    """

    name: str
    description: str
    parameters: dict[str, Any]
    freeform: bool = False
    grammar: str | None = None
    syntax: Literal["lark", "regex"] = "lark"
    strict: bool = False


class Sampling(msgspec.Struct, frozen=True, omit_defaults=True):
    """What callers of the gateway may say of how an answer is made; the agent says nothing.

    `tool_choice` is "auto", "none", "required", or "tool": the one called `tool_name`. `json_object` wants any JSON
    object as the answer, `schema_name` and `schema_strict` belong to the request's output schema. A wire leaves out
    what it has no field for: whoever must not lose it asks `sampling.unsaid` first.
    """

    tool_choice: Literal["auto", "none", "required", "tool"] = "auto"
    tool_name: str = ""
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    json_object: bool = False
    schema_name: str = ""
    schema_strict: bool | None = None
    verbosity: str | None = None
    service_tier: str | None = None
    end_user: str = ""
    metadata: dict[str, str] | None = None


class Transcript:
    """The items of a thread, in order, for clients that encode each of them once.

    Items are only ever appended, except by `replace` (compaction), which moves `generation` on: an encoder
    that has seen `n` items of this generation need only look at `items[n:]`.
    """

    def __init__(self, items: Iterable[Item] = ()) -> None:
        self.items: list[Item] = list(items)
        self.generation = 0

    def append(self, items: Iterable[Item]) -> None:
        """Add `items` at the end."""
        self.items.extend(items)

    def replace(self, items: Iterable[Item]) -> None:
        """Start over with `items`."""
        self.items = list(items)
        self.generation += 1


class ModelRequest(msgspec.Struct):
    """One request. `instructions` and `tools` are the stable head, `transcript` the growing rest."""

    instructions: str
    tools: tuple[ToolSpec, ...]
    transcript: Transcript
    thread_id: str = ""
    output_schema: dict[str, Any] | None = None
    reasoning_effort: str | None = None
    max_output_tokens: int | None = None
    parallel_tool_calls: bool = True
    sampling: Sampling | None = None


class TextDelta(msgspec.Struct, frozen=True):
    """Words as they come. `refusal` says that they decline, where the wire tells so at once."""

    text: str
    refusal: bool = False


class ReasoningDelta(msgspec.Struct, frozen=True):
    text: str


class ItemDone(msgspec.Struct, frozen=True):
    """A whole item of the answer."""

    item: Item


class RetryScheduled(msgspec.Struct, frozen=True):
    """The request failed and is sent again: forget every part received since the last `Completed`."""

    attempt: int
    limit: int
    delay_s: float
    reason: str


class Completed(msgspec.Struct, frozen=True):
    """The answer is whole. `model` is what the endpoint says served it; `stop` is "end", "length" or "refusal".

    `filtered` says that not the model but a filter of the endpoint's refused: the "answer", or the "exchange", the
    answer with the input before it. `requested` is the model that was asked for, "" where that is not known, and
    `substitution` why another one served, where the endpoint says so. `lathe` is what a gateway of ours says besides.
    """

    usage: Usage
    model: str = ""
    response_id: str = ""
    stop: str = "end"
    filtered: Literal["", "answer", "exchange"] = ""
    requested: str = ""
    substitution: str = ""
    lathe: dict[str, Any] | None = None


ModelPart: TypeAlias = TextDelta | ReasoningDelta | ItemDone | RetryScheduled | Completed


class ModelClient(Protocol):
    """One model, for one thread at a time."""

    def stream(self, request: ModelRequest) -> AsyncIterator[ModelPart]:
        """Yield the answer's parts, `Completed` last.

        Raises `ModelRejected`, `ModelUnreachable`, `ModelFailed` or `ContextOverflow`. Closing the iterator
        early cancels the request.
        """
        ...

    async def aclose(self) -> None:
        """Close connections; the client is not used again."""
        ...
