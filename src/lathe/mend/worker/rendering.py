"""Functions of the project as a person would call them: how to call them, and how to write the call down."""

from __future__ import annotations

import inspect
import sys
from types import FunctionType
from typing import Any

from lathe.mend.worker.inputs import Call
from lathe.mend.worker.outcomes import Literals, canonical, is_identifier

_SHOWN = 80


class Subject:
    """A function that is called with inputs: plain, a method, a constructor, or a property."""

    def __init__(self, function: FunctionType) -> None:
        code = function.__code__
        self.function = function
        self.name = function.__name__
        self._path = function.__qualname__.split(".")
        self._module = function.__module__ or ""
        first = code.co_varnames[0] if code.co_argcount else ""
        self._owner = _resolve(self._module, self._path[:-1]) if len(self._path) > 1 else None
        own = inspect.getattr_static(self._owner, self.name, None) if isinstance(self._owner, type) else None
        self._bound = first in ("self", "cls") and isinstance(self._owner, type)
        self._property = isinstance(own, property)
        self._constructor = self._bound and self.name == "__init__"
        self._coroutine = inspect.iscoroutinefunction(function)

    def call(self, call: Call) -> Any:
        """Return the result, of a coroutine what it comes to; raises what the function raises."""
        positional = call.positional
        if self._constructor:
            return type(positional[0])(*positional[1:], **call.keywords)
        result = self.function(*positional, **call.keywords)
        if self._coroutine:
            import asyncio

            return asyncio.run(result)
        return result

    def write(self, call: Call, literals: Literals) -> dict[str, Any]:
        """Return how the call is shown (`text`), and, where it can be written in a test, its `head` and `arguments`."""
        positional = list(call.positional)
        rest = positional[1:] if self._bound else positional
        given: list[tuple[str, Any]] = [("", value) for value in rest]
        given += [(f"{name}=", value) for name, value in call.keywords.items() if is_identifier(name)]
        written = [(prefix, literals.write(value)) for prefix, value in given]
        arguments = [f"{prefix}{text}" for prefix, text in written if text is not None]
        subject, head = self._head(positional, literals)
        shown = ", ".join(
            f"{prefix}{text if text is not None else _short(value)}"
            for (prefix, value), (_, text) in zip(given, written, strict=True)
        )
        title = f"{subject}" if self._property else f"{subject}({shown})"
        complete = head is not None and len(arguments) == len(given)
        return {
            "text": title,
            "name": self.name,
            "head": head if complete else None,
            "arguments": arguments if complete else [],
            "receiver": literals.write(positional[0]) if complete and self._is_method() else None,
            "property": self._property,
            "coroutine": self._coroutine,
            "constructor": self._constructor,
        }

    def effects(self, call: Call, result: Any) -> dict[str, Any]:
        """Return what the call changed: `after` by position of the argument, `state` by attribute of the receiver."""
        literals = Literals()
        positional = list(call.positional)
        subject = result if self._constructor else positional[0] if self._is_method() else None
        rest = positional[1:] if self._bound else positional
        after = {str(place): text for place, value in enumerate(rest) if (text := literals.write(value)) is not None}
        state = {}
        if subject is not None:
            for name, value in sorted(getattr(subject, "__dict__", {}).items()):
                text = literals.write(value)
                if text is not None:
                    state[name] = text
        shown = canonical(subject)[:_SHOWN] if subject is not None else canonical(tuple(rest))[:_SHOWN]
        return {"after": after, "state": state, "left": shown}

    def _is_method(self) -> bool:
        return self._bound and not self._constructor and self.function.__code__.co_varnames[0] == "self"

    def _head(self, positional: list[Any], literals: Literals) -> tuple[str, str | None]:
        """Return what stands before the arguments, as shown and as written; `None` where it can't be written."""
        if self._constructor:
            name = literals.write(type(positional[0]))
            return type(positional[0]).__name__, name
        if self._bound:
            receiver = literals.write(positional[0])
            kind = positional[0] if isinstance(positional[0], type) else type(positional[0])
            shown = receiver if receiver is not None and len(receiver) < _SHOWN else f"{_short(positional[0])}"
            head = f"{receiver}.{self.name}" if receiver is not None and hasattr(kind, self.name) else None
            return f"{shown}.{self.name}", head
        if _resolve(self._module, self._path) is None or not all(map(is_identifier, self._path)):
            return self._path[-1], None
        literals.modules.add(self._module)
        return ".".join(self._path), f"{self._module}.{'.'.join(self._path)}"


def _resolve(module: str, path: list[str]) -> Any:
    found: Any = sys.modules.get(module)
    for part in path:
        found = getattr(found, part, None)
    return found


def _short(value: Any) -> str:
    text = canonical(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
