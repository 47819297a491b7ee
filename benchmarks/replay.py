"""Runs in a library's tree under its interpreter: notes how the suite calls functions, and calls them again.

    replay.py record OUT FILE:QUALNAME ...   run the suite, and keep the arguments of those functions' calls
    replay.py calls IN OUT                   make those calls and ones like them, and write what each did

The inputs of `calls` depend on the kept arguments alone, so two trees can be compared call by call.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import inspect
import io
import json
import os
import pickle
import random
import re
import signal
import sys
import types
from collections.abc import Iterator
from typing import Any

MOST_KEPT = 150
OBSERVED = 60
GENERATED = 240
LONGEST_S = 0.5
Arguments = dict[str, Any]


class TimeUpError(BaseException):
    """A call takes too long."""


# --- recording


def record(out: str, wanted: list[str]) -> None:
    import pytest

    names = {(os.path.abspath(file), qualified) for file, _, qualified in (each.partition(":") for each in wanted)}
    kept: dict[str, dict[bytes, None]] = {}

    def seen(frame: types.FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event != "call" or (code.co_filename, code.co_qualname) not in names:
            return
        known = kept.setdefault(f"{os.path.relpath(code.co_filename)}:{code.co_qualname}", {})
        if len(known) < MOST_KEPT:
            with contextlib.suppress(Exception):
                count = code.co_argcount + code.co_kwonlyargcount
                count += bool(code.co_flags & inspect.CO_VARARGS) + bool(code.co_flags & inspect.CO_VARKEYWORDS)
                known[pickle.dumps({name: frame.f_locals[name] for name in code.co_varnames[:count]})] = None

    sys.path[0] = os.getcwd()
    sys.setprofile(seen)
    pytest.main(["-q", "--tb=no", "-p", "no:cacheprovider"])
    sys.setprofile(None)
    with open(out, "wb") as file:
        pickle.dump(({name: list(known) for name, known in kept.items()}, os.getcwd(), sys.path), file)


# --- replaying


def calls(source: str, out: str) -> None:
    with open(source, "rb") as file:
        kept, home, path = pickle.load(file)
    sys.path[:] = [os.getcwd() + entry[len(home) :] if entry.startswith(home) else entry for entry in path]
    outcomes: dict[str, list[list[str]]] = {}
    for name, pickles in sorted(kept.items()):
        file_name, _, qualified = name.partition(":")
        function = _find(file_name, qualified)
        outcomes[name] = [] if function is None else [list(each) for each in _replayed(function, pickles)]
    with open(out, "w", encoding="utf-8") as written:
        json.dump(outcomes, written)


def _find(file: str, qualified: str) -> types.FunctionType | None:
    parts = file.removesuffix(".py").split("/")
    parts = parts[1:] if parts[0] == "src" else parts
    importlib.import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    full = os.path.abspath(file)
    for each in gc.get_objects():
        if (
            isinstance(each, types.FunctionType)
            and each.__qualname__ == qualified
            and each.__code__.co_filename == full
        ):
            return each
    return None


def _replayed(function: types.FunctionType, pickles: list[bytes]) -> Iterator[tuple[str, str, str]]:
    """Yield for each call where its input is from, the input, and what it did."""
    usable = [each for each in pickles if _loads(each) is not None]
    for each in usable[:OBSERVED]:
        yield "observed", *_called(function, _loads(each) or {}, strict=True)
    for number in range(GENERATED if usable else 0):
        chance = random.Random(number)
        arguments, donor = _loads(chance.choice(usable)) or {}, _loads(chance.choice(usable)) or {}
        for name in chance.sample(sorted(arguments), k=min(len(arguments), chance.choice((1, 1, 2)))):
            value = donor.get(name) if chance.random() < 0.3 else _varied(arguments[name], chance)
            arguments[name] = arguments[name] if value is None and name in ("self", "cls") else value
        yield "generated", *_called(function, arguments, strict=False)


def _loads(data: bytes) -> Arguments | None:
    try:
        found: Arguments = pickle.loads(data)
    except Exception:
        return None
    return found


def _varied(value: Any, chance: random.Random) -> Any:
    """Return something of the same type and near to `value`; `value` itself where it is no plain data."""
    if isinstance(value, bool):
        return not value
    if type(value) in (int, float):
        return chance.choice((value + 1, value - 1, 0, -value, value * 2, 1, 2, 3))
    if type(value) in (str, bytes):
        at = chance.randrange(len(value) + 1)
        cases = (value[:at], value[at:], value + value, value[:at] + value[at + 1 :], value.swapcase(), value[::-1])
        return chance.choice((*cases, value[:at] + value[:1] + value[at:]))
    if type(value) in (list, tuple) and value:
        at = chance.randrange(len(value))
        inner = type(value)([_varied(value[at], chance)])
        others = (value[:at] + value[at + 1 :], value + value[at:], value[::-1], value[:at] + inner + value[at + 1 :])
        return chance.choice((*others, value[:0]))
    if type(value) is dict and value:
        key = chance.choice(list(value))
        rest = {each: item for each, item in value.items() if each != key}
        return chance.choice((rest, {**rest, key: _varied(value[key], chance)}))
    return value


def _called(function: types.FunctionType, arguments: Arguments, *, strict: bool) -> tuple[str, str]:
    shown = described(arguments)
    code = function.__code__
    names = list(code.co_varnames)
    positional, only = names[: code.co_argcount], names[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    rest = names[len(positional) + len(only) :]
    words = [arguments[name] for name in positional]
    words += arguments[rest.pop(0)] if code.co_flags & inspect.CO_VARARGS else ()
    named = {name: arguments[name] for name in only}
    named.update(arguments[rest[0]] if code.co_flags & inspect.CO_VARKEYWORDS else {})
    signal.setitimer(signal.ITIMER_REAL, LONGEST_S)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            did = "returned " + described(function(*words, **named))
    except TimeUpError:
        did = "hung"
    except BaseException as error:
        wild = isinstance(error, (TypeError, AttributeError)) and not strict
        did = "raised " + ("for its types" if wild else type(error).__name__ + (f": {error}" if strict else ""))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return shown, re.sub(r"0x[0-9a-f]{6,}", "0x", did + " leaving " + described(arguments))


def described(value: Any, depth: int = 5) -> str:
    """Return a text that is equal for values that cannot be told apart; iterators are used up to 60 items."""
    kind = type(value).__name__
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes, type, types.FunctionType)):
        return f"{kind} {value!r}"
    if depth == 0:
        return kind
    if isinstance(value, dict):
        return (
            kind
            + "{"
            + ", ".join(f"{described(k, depth - 1)}: {described(v, depth - 1)}" for k, v in value.items())
            + "}"
        )
    if isinstance(value, (list, tuple)):
        return f"{kind}[{', '.join(described(each, depth - 1) for each in value)}]" + _state(value, depth)
    if isinstance(value, (set, frozenset)):
        return f"{kind}{sorted(described(each, depth - 1) for each in value)}"
    if isinstance(value, Iterator):
        items = []
        for each in value:
            items.append(described(each, depth - 1))
            if len(items) == 60:
                break
        return f"{kind}<{', '.join(items)}>"
    return kind + _state(value, depth)


def _state(value: Any, depth: int) -> str:
    state = dict(getattr(value, "__dict__", None) or {})
    for base in type(value).__mro__:
        slots = base.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if not name.startswith("__") and hasattr(value, name):
                state[name] = getattr(value, name)
    return "(" + ", ".join(f"{name}={described(item, depth - 1)}" for name, item in sorted(state.items())) + ")"


def _time_up(number: int, frame: object) -> None:
    raise TimeUpError


if __name__ == "__main__":
    signal.signal(signal.SIGALRM, _time_up)
    if sys.argv[1] == "record":
        record(sys.argv[2], sys.argv[3:])
    else:
        calls(*sys.argv[2:4])
