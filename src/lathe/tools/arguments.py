"""The arguments of a call, from the text that a model wrote to a tool's own struct."""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec

from lathe.protocol.codec import DecodeError, decode_json
from lathe.protocol.items import FunctionCall, ToolCall
from lathe.tools.base import MalformedCall

T = TypeVar("T", bound=msgspec.Struct)

_WRONG_TYPE = re.compile(r"Expected `(?P<expected>[^`]+)`, got `(?P<got>[^`]+)`(?: - at `\$\.(?P<where>[^`]+)`)?")
_MISSING = re.compile(r"missing required field `(?P<field>[^`]+)`(?: - at `\$\.(?P<where>[^`]+)`)?")
_TYPE_NAMES = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
}


def decode_arguments(call: ToolCall, into: type[T]) -> T:
    """Return the arguments of `call` as `into`.

    Unknown keys and nulls are ignored, and numbers or truth values written as strings are taken for what they
    mean: models do all three. Raises `MalformedCall` with a sentence that names what is wrong and where.
    """
    text = call.arguments if isinstance(call, FunctionCall) else call.input
    value = _decode(call.name, text)
    try:
        return msgspec.convert({key: part for key, part in value.items() if part is not None}, into, strict=False)
    except msgspec.ValidationError as error:
        raise MalformedCall(f"{call.name}: {_explain(str(error))}.") from None


def _decode(name: str, text: str) -> dict[str, Any]:
    try:
        value = decode_json(text) if text.strip() else {}
    except (DecodeError, UnicodeError, RecursionError) as error:
        value = _decode_with_raw_line_breaks(text)
        if value is None:
            raise MalformedCall(f"The arguments of {name} are not valid JSON ({error}).") from None
    if isinstance(value, str):
        # Some models encode the object twice.
        try:
            value = decode_json(value)
        except (DecodeError, UnicodeError, RecursionError):
            value = None
    if not isinstance(value, dict):
        raise MalformedCall(f"The arguments of {name} must be a JSON object.")
    return value


def _decode_with_raw_line_breaks(text: str) -> Any:
    """Return what `text` means if its only fault is a raw control character in a string, else None."""
    import json

    try:
        return json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None


def _explain(message: str) -> str:
    if found := _WRONG_TYPE.search(message):
        where = f"`{found['where']}`" if found["where"] else "the whole"
        return f"{where} must be {_names(found['expected'])}, not {_names(found['got'])}"
    if found := _MISSING.search(message):
        where = f" of `{found['where']}`" if found["where"] else ""
        return f"`{found['field']}`{where} is missing"
    return message.replace("$.", "")


def _names(types: str) -> str:
    """Return types in words; "null" is left out, since nulls count as missing."""
    return " or ".join(_TYPE_NAMES.get(name, name) for name in types.split(" | ") if name != "null")
