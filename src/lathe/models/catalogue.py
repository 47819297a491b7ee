"""The catalogue: what is known of models, as TOML data beside this file.

A look-up parses only the entries it wants; the whole file is read by tests alone.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec

from lathe.protocol.errors import ConfigError
from lathe.protocol.usage import Usage

UNKNOWN_CONTEXT = 128_000
"""Context window, in tokens, that a model nobody knows is given: what most served models have at least.

A smaller one answers with its context-length error, which compacts; a larger one can be configured.
"""

UNKNOWN_OUTPUT = 32_000
"""Output limit, in tokens, sent where a wire demands one and the model is unknown."""

_FILE = Path(__file__).with_name("catalogue.toml")
_SUFFIX = re.compile(r"(?:[-@:](?:\d{4}-\d{2}-\d{2}|\d{8}|\d{6}|latest|free|beta|exacto|nitro|thinking))+$")

Efforts: TypeAlias = tuple[str, ...]
EFFORTS: Efforts = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""Every reasoning effort that a wire knows, least first."""


class Quirks(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How one endpoint or model departs from its wire; a provider's come first, the model's on top.

    Responses: `freeform` custom tools exist; `item_ids` and `store` go together (Azure wants both);
    `encrypted_reasoning` may be asked for. Chat: `developer` is the role that instructions in mid-thread take,
    `system` that of the first ones; `max_tokens` names the field of the output limit; `effort` the one of the
    reasoning effort; `reasoning` the field in which reasoning is sent back ("" for none); `stream_usage` may be
    asked for. Messages: `thinking` is "adaptive", "budget" or "off"; `cache` is "auto" (top-level
    `cache_control` and the head), "head" or "off"; `bearer` sends the key as a bearer token. All: `images` may
    be sent; `structured` output can be asked for; `cache_key` sends the thread's id as prompt cache key;
    `fallback` is the wire to take, once, where the endpoint does not know this one.
    """

    freeform: bool = True
    item_ids: bool = False
    store: bool = False
    encrypted_reasoning: bool = True
    system: Literal["system", "developer"] = "system"
    developer: Literal["system", "developer", "user"] = "user"
    max_tokens: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    effort: Literal["reasoning_effort", "reasoning", ""] = "reasoning_effort"
    reasoning: Literal["reasoning_content", "reasoning", "reasoning_details", ""] = "reasoning_content"
    stream_usage: bool = True
    thinking: Literal["adaptive", "budget", "off"] = "off"
    cache: Literal["auto", "head", "off"] = "off"
    bearer: bool = False
    images: bool = True
    structured: bool = True
    cache_key: bool = False
    fallback: Literal["chat", ""] = ""


def quirks_of(*layers: Mapping[str, Any]) -> Quirks:
    """Return the quirks that `layers` add up to, later ones on top; raise `ConfigError`."""
    merged: dict[str, Any] = {}
    for layer in layers:
        merged.update(layer)
    try:
        return msgspec.convert(merged, Quirks)
    except msgspec.ValidationError as error:
        raise ConfigError(f"A quirk of a provider or model is wrong: {error}.") from None


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """US dollars per million tokens. What is None costs as `input`."""

    input: float
    output: float
    cached_input: float | None = None
    cache_write: float | None = None


class ModelInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model. Sizes in tokens; `known` is False where they are a guess.

    `long_price` holds for a whole request whose input is longer than `long_from`. `efforts` are the reasoning
    efforts that the model takes, () where that is not known. `provider` is who serves it first-hand.
    """

    name: str
    context_window: int = UNKNOWN_CONTEXT
    max_output_tokens: int | None = None
    price: Price | None = None
    long_from: int | None = None
    long_price: Price | None = None
    efforts: Efforts = ()
    quirks: dict[str, Any] = {}
    provider: str = ""
    known: bool = True


def find_model(name: str, overrides: Mapping[str, Mapping[str, Any]] | None = None) -> ModelInfo:
    """Return what is known of the model `name`: exactly, else without vendor prefix and date, else by family.

    A family (`gpt-5.2` for `gpt-5.2-something`) lends its limits and quirks, not its price. `overrides` are the
    person's own entries, field by field on top of what is found. Raises `ConfigError` for one that is wrong.
    """
    entry = _look_up(name)
    own = (overrides or {}).get(name)
    if own is not None:
        entry = {**entry, **own, "known": True}
    try:
        return msgspec.convert({**entry, "name": name}, ModelInfo)
    except msgspec.ValidationError as error:
        raise ConfigError(f"The entry of the model {name!r} is wrong: {error}.") from None


def _look_up(name: str) -> dict[str, Any]:
    text = _text()
    bare = name.rsplit("/", 1)[-1].lower()
    plain = _SUFFIX.sub("", bare)
    for candidate in dict.fromkeys((name, name.lower(), _SUFFIX.sub("", name.lower()), bare, plain)):
        entry = _section(text, "models", candidate)
        if entry is not None:
            return entry
    family = plain
    while (cut := max(family.rfind("-"), family.rfind(":"))) > 0:
        family = family[:cut]
        entry = _section(text, "models", family)
        if entry is not None:
            return {key: value for key, value in entry.items() if "price" not in key and key != "long_from"}
    return {"known": False}


def find_provider(name: str) -> dict[str, Any] | None:
    """Return the built-in provider's entry, or None."""
    return _section(_text(), "providers", name)


def provider_names() -> list[str]:
    """Return the names of the built-in providers."""
    return re.findall(r'^\[providers\."([^"\]]+)"\]$', _text(), re.MULTILINE)


def _section(text: str, table: str, key: str) -> dict[str, Any] | None:
    head = f'\n[{table}."{key}"]\n'
    start = text.find(head)
    if start < 0:
        return None
    start += len(head)
    end = text.find("\n[", start)
    return tomllib.loads(text[start : end if end >= 0 else len(text)])


def _text() -> str:
    return _FILE.read_text("utf-8")


def effort_for(wish: str | None, info: ModelInfo) -> str | None:
    """Return the effort to send for the wish `wish`: the nearest that the model takes, the higher of two equals."""
    if wish is None or not info.efforts or wish in info.efforts or wish not in EFFORTS:
        return wish
    at = EFFORTS.index(wish)
    return min(info.efforts, key=lambda effort: (abs(EFFORTS.index(effort) - at), -EFFORTS.index(effort)))


def cost(usage: Usage, info: ModelInfo) -> float | None:
    """Return the US dollars that `usage`, of one request, costs; None where the price is not known."""
    price = info.price
    if info.long_from is not None and info.long_price is not None and usage.input_tokens > info.long_from:
        price = info.long_price
    if price is None:
        return None
    cached, written = usage.cached_input_tokens, usage.cache_write_tokens
    fresh = max(0, usage.input_tokens - cached - written)
    total = fresh * price.input + usage.output_tokens * price.output
    total += cached * (price.input if price.cached_input is None else price.cached_input)
    total += written * (price.input if price.cache_write is None else price.cache_write)
    return total / 1_000_000
