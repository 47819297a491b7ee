"""Values as text: one form to compare what two programs made, one to write in a test."""

from __future__ import annotations

import collections.abc
import contextlib
import enum
import inspect
import itertools
import math
import re
import sys
from typing import Any

MAX_DEPTH = 6
MAX_ITEMS = 200
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_PLAIN = (str, bytes, type(None))
_LETTERS = re.compile(r"[^\W\d]\w*\Z")


def canonical(value: Any, depth: int = 0) -> str:
    """Return a text that is equal for values that behave alike: equal numbers of any type, sets in any order, objects
    by class and content. Iterators are used up."""
    if value is None or isinstance(value, (str, bytes, bool)):
        return repr(value)
    if isinstance(value, enum.Enum):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, (int, float, complex)):
        return _number(value)
    if depth > MAX_DEPTH:
        return "..."
    text = _container(value, depth)
    if text is not None:
        return text
    if isinstance(value, type) or callable(value):
        return f"<{getattr(value, '__qualname__', type(value).__qualname__)}>"
    if isinstance(value, collections.abc.Iterator):
        items = [canonical(item, depth + 1) for item in itertools.islice(value, MAX_ITEMS)]
        return f"iterator({', '.join(items)})"
    return _object(value, depth)


def _number(value: Any) -> str:
    if isinstance(value, complex):
        return f"complex({value.real:.9g}, {value.imag:.9g})"
    if isinstance(value, float):
        if not math.isfinite(value):
            return repr(value)
        if value == int(value) and abs(value) < 1e15:
            return str(int(value))
        return f"{value:.9g}"  # sums in another order are the same answer
    if abs(value) > 1 << 4000:
        return f"an integer of {value.bit_length()} bits, {hash(value)}"
    return str(int(value))


def _container(value: Any, depth: int) -> str | None:
    if isinstance(value, (list, tuple, collections.deque)):
        items = [canonical(item, depth + 1) for item in itertools.islice(value, MAX_ITEMS)]
        items += [f"{len(value)} in all"] if len(value) > MAX_ITEMS else []
        inner = ", ".join(items)
        if isinstance(value, tuple):
            name = "" if type(value) is tuple else type(value).__name__
            return f"{name}({inner}{',' if len(items) == 1 else ''})"
        return f"{'' if type(value) is list else type(value).__name__}[{inner}]"
    if isinstance(value, (set, frozenset)):
        return f"{{{', '.join(sorted(canonical(item, depth + 1) for item in value))}}}"
    if isinstance(value, dict):
        shown = itertools.islice(value.items(), MAX_ITEMS)
        pairs = [f"{canonical(key, depth + 1)}: {canonical(item, depth + 1)}" for key, item in shown]
        return f"{{{', '.join(sorted(pairs))}}}"
    return None


def _object(value: Any, depth: int) -> str:
    content = getattr(value, "__dict__", None)
    fields = dict(content) if isinstance(content, dict) else {}
    if not fields and any("__repr__" in kind.__dict__ for kind in type(value).__mro__[:-1]):
        with contextlib.suppress(Exception):
            return _ADDRESS.sub("", repr(value))
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            if hasattr(value, slot) and not slot.startswith("__"):
                fields[slot] = getattr(value, slot)
    shown = ", ".join(f"{name}={canonical(item, depth + 1)}" for name, item in sorted(fields.items()))
    return f"{type(value).__name__}({shown})"


class Literals:
    """Writes values as source code, and knows what has to be imported for it. A class, because both go together."""

    def __init__(self) -> None:
        self.modules: set[str] = set()

    def write(self, value: Any, depth: int = 0) -> str | None:
        """Return an expression that makes an equal value, `None` where there is none that is known to."""
        if isinstance(value, enum.Enum):
            return self._named(type(value), f".{value.name}")
        if value is None or isinstance(value, (bool, int, float, str, bytes)):
            if type(value) not in (bool, int, float, str, bytes, type(None)):
                return None
            text = repr(value)
            return f'float("{text}")' if isinstance(value, float) and not math.isfinite(value) else text
        if depth > MAX_DEPTH:
            return None
        if type(value) in (list, tuple, set, frozenset, dict):
            return self._container(value, depth)
        if isinstance(value, type):
            return self._named(value, "")
        return self._object(value, depth)

    def _container(self, value: Any, depth: int) -> str | None:
        if len(value) > 40:
            return None
        if isinstance(value, dict):
            pairs = [(self.write(key, depth + 1), self.write(item, depth + 1)) for key, item in value.items()]
            if any(key is None or item is None for key, item in pairs):
                return None
            return f"{{{', '.join(f'{key}: {item}' for key, item in pairs)}}}"
        every = sorted(value, key=canonical) if isinstance(value, (set, frozenset)) else value
        items = [self.write(item, depth + 1) for item in every]
        known = [item for item in items if item is not None]
        if len(known) < len(items):
            return None
        inner = ", ".join(known)
        if isinstance(value, list):
            return f"[{inner}]"
        if isinstance(value, tuple):
            return f"({inner},)" if len(known) == 1 else f"({inner})"
        braces = f"{{{inner}}}" if known else "set()"
        return f"frozenset({braces if known else ''})" if isinstance(value, frozenset) else braces

    def _named(self, kind: type, rest: str) -> str | None:
        """Return the name of a class as seen from outside its module."""
        if kind.__module__ == "builtins":
            return kind.__qualname__ + rest
        found: Any = sys.modules.get(kind.__module__)
        for part in kind.__qualname__.split("."):
            found = getattr(found, part, None)
        if found is not kind or kind.__module__ == "__main__":
            return None
        self.modules.add(kind.__module__)
        return f"{kind.__module__}.{kind.__qualname__}{rest}"

    def _object(self, value: Any, depth: int) -> str | None:
        """Return a call of the class with the object's own attributes, if that makes an equal object; else its repr."""
        name = self._named(type(value), "")
        if name is None or type(value) is object:
            return None
        wanted = canonical(value)
        for text in (self._call(value, name, depth), self._printed(value, name)):
            if text is not None and self._makes(text, wanted):
                return text
        return None

    def _call(self, value: Any, name: str, depth: int) -> str | None:
        try:
            parameters = list(inspect.signature(type(value)).parameters.values())
        except (TypeError, ValueError):
            return None
        written = []
        for parameter in parameters:
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                continue
            for spelled in (parameter.name, f"_{parameter.name}"):
                if hasattr(value, spelled):
                    text = self.write(getattr(value, spelled), depth + 1)
                    if text is None:
                        return None
                    by_place = parameter.kind == parameter.POSITIONAL_ONLY
                    written.append(text if by_place else f"{parameter.name}={text}")
                    break
            else:
                if parameter.default is parameter.empty:
                    return None
        return f"{name}({', '.join(written)})"

    def _printed(self, value: Any, name: str) -> str | None:
        text = repr(value)
        plain = type(value).__name__
        if text.startswith(f"{plain}("):
            return name + text[len(plain) :]
        return text if text.startswith(f"{name}(") else None

    def _makes(self, text: str, wanted: str) -> bool:
        """Return whether evaluating `text` makes what is wanted."""
        if len(text) > 2000:
            return False
        try:
            space = {module.partition(".")[0]: sys.modules[module.partition(".")[0]] for module in self.modules}
            return canonical(eval(text, space)) == wanted
        except Exception:
            return False


def is_identifier(text: str) -> bool:
    """Return whether `text` can be written as a name."""
    return bool(_LETTERS.match(text))
