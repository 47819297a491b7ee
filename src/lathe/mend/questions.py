"""What to ask when the tests cannot tell repairs apart: a call, what each repair makes of it, and a test to decide."""

from __future__ import annotations

import builtins
import re
from collections.abc import Mapping, Sequence
from typing import Any

_INDENT = "    "
_MAX_NAME = 40


def shown_result(outcome: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Return what a call came to, in words short enough for a line; `other` is what it is told apart from."""
    if outcome["kind"] == "time":
        return "it does not end in time"
    if outcome["kind"] == "raise":
        return f"it raises {outcome['text']}"
    result = str(outcome.get("literal") or outcome["text"])
    result = result if len(result) <= 60 else f"{result[:60]}..."
    if outcome["text"] == other.get("text") and outcome["kind"] == other["kind"]:
        if outcome.get("left") != other.get("left"):
            return f"it leaves {outcome.get('left', 'everything as it was')}"
        if outcome.get("said") != other.get("said"):
            return f"it prints {outcome.get('said', '')[:60]!r}"
    return result


def ready_test(call: Mapping[str, Any], outcome: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Return a test that holds for `outcome` and not for `other`; "" where the call cannot be written down."""
    head = call.get("head")
    if head is None or outcome["kind"] == "time":
        return ""
    modules = {*call["modules"], *outcome.get("modules", ())}
    expression = head if call["property"] else f"{head}({', '.join(call['arguments'])})"
    expression = f"asyncio.run({expression})" if call["coroutine"] else expression
    lines: list[str] | None
    if outcome["kind"] == "raise":
        modules.add("pytest")
        found = getattr(builtins, outcome["text"], None)
        kind = outcome["text"] if isinstance(found, type) and issubclass(found, Exception) else "Exception"
        lines = [f"with pytest.raises({kind}):", f"{_INDENT}{expression}"]
    elif outcome["text"] != other.get("text") or other["kind"] != "value":
        lines = _compared(expression, outcome)
    else:
        lines = _effect(call, outcome, other)
    if lines is None:
        return ""
    if call["coroutine"]:
        modules.add("asyncio")
    imports = [f"import {name}" for name in sorted(modules)]
    body = [f"def test_{_name(call)}():", *(f"{_INDENT}{line}" for line in lines)]
    return "\n".join([*imports, *(["", ""] if imports else []), *body]) + "\n"


def _compared(expression: str, outcome: Mapping[str, Any]) -> list[str] | None:
    literal = outcome.get("literal")
    if outcome["text"].startswith("iterator("):
        return None
    if literal is None:
        return None
    if literal in ("None", "True", "False"):
        return [f"assert {expression} is {literal}"]
    if re.fullmatch(r"-?\d+\.\d+(e-?\d+)?", literal):
        return ["import pytest", "", f"assert {expression} == pytest.approx({literal})"]
    return [f"assert {expression} == {literal}"]


def _effect(call: Mapping[str, Any], outcome: Mapping[str, Any], other: Mapping[str, Any]) -> list[str] | None:
    """Return the lines that look at an argument, or at the receiver, after the call."""
    for place, text in sorted(outcome.get("after", {}).items()):
        if text != other.get("after", {}).get(place) and int(place) < len(call["arguments"]):
            arguments = list(call["arguments"])
            value = arguments[int(place)]
            if "=" not in value.partition("(")[0]:
                arguments[int(place)] = "given"
                return [f"given = {value}", f"{call['head']}({', '.join(arguments)})", f"assert given == {text}"]
    receiver = call.get("receiver")
    made = f"{call['head']}({', '.join(call['arguments'])})"
    before, after = other.get("state", {}), outcome.get("state", {})
    for name in sorted(after, key=lambda name: (name.startswith("_"), name)):
        if after[name] != before.get(name):
            if call["constructor"]:
                return [f"assert {made}.{name} == {after[name]}"]
            if receiver is not None:
                rest = made.removeprefix(receiver)
                return [f"subject = {receiver}", f"subject{rest}", f"assert subject.{name} == {after[name]}"]
    return None


def _name(call: Mapping[str, Any]) -> str:
    words = [call["name"].strip("_"), *call["arguments"]]
    text = re.sub(r"\W+", "_", "_".join(words)).strip("_").lower()
    return text[:_MAX_NAME].rstrip("_") or "the_call"


def is_simpler(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether a call is easier to judge for a person than another."""
    return _effort(one) < _effort(other)


def _effort(call: Mapping[str, Any]) -> tuple[bool, bool, int]:
    outcomes: Sequence[Mapping[str, Any]] = call["outcomes"]
    return (call.get("head") is None, any(outcome["kind"] != "value" for outcome in outcomes), len(call["text"]))
