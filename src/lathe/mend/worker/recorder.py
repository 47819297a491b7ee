"""The arguments that functions are given while tests run, copied before anything can change them."""

from __future__ import annotations

import contextlib
import copy
import os
import sys
import time
from types import CodeType, FrameType
from typing import Any

from lathe.mend.worker.outcomes import canonical

MAX_SEEN = 24  # different calls of a function that are kept
MAX_MISSED = 60  # calls of a function from tests that reached no changed one, after which it is not looked at
_COPY_S = 0.05
_RESUMED = 0x20 | 0x80 | 0x100 | 0x200  # generator, coroutine, iterable coroutine, asynchronous generator
_VARARGS, _VARKEYWORDS = 0x04, 0x08
Arguments = tuple[tuple[Any, ...], dict[str, Any]]


class Recorder:
    """Keeps copies of the arguments of the changed functions, and of what tests call to reach them."""

    def __init__(self, root: str, tests: set[str], changed: set[CodeType]) -> None:
        self.slowest = 0.0
        self._prefix = root + os.sep
        self._tests = tests
        self._changed = changed
        self._seen: dict[CodeType, dict[str, tuple[Arguments, str]]] = {}
        self._missed: dict[CodeType, int] = {}
        self._refused: set[CodeType] = set()
        self._entries: list[tuple[FrameType, Arguments | None, float]] = []
        self._origin = ""

    def start(self, origin: str) -> None:
        """Look on while a test runs."""
        self._origin = origin
        self._entries = []
        sys.setprofile(self._event)

    def stop(self) -> None:
        """Look away."""
        sys.setprofile(None)

    def found(self) -> dict[CodeType, list[tuple[Arguments, str]]]:
        """Return the different arguments of each function, with the kind of test that gave them."""
        return {code: list(seen.values()) for code, seen in self._seen.items()}

    def _event(self, frame: FrameType, event: str, argument: object) -> None:
        if event == "call":
            code = frame.f_code
            if code in self._changed:
                self._reach()
                self._keep(code, self._copy(frame))
            elif code.co_filename.startswith(self._prefix) and code.co_filename not in self._tests:
                caller = frame.f_back
                if caller is not None and caller.f_code.co_filename in self._tests:
                    self._enter(frame)
        elif event == "return" and self._entries and self._entries[-1][0] is frame:
            _, _, began = self._entries.pop()
            if self._origin == "passing":
                self.slowest = max(self.slowest, time.monotonic() - began)

    def _enter(self, frame: FrameType) -> None:
        code = frame.f_code
        missed = self._missed.get(code, 0)
        if missed < MAX_MISSED and code.co_name not in ("<module>", "<lambda>"):
            self._missed[code] = missed + 1
            self._entries.append((frame, self._copy(frame), time.monotonic()))

    def _reach(self) -> None:
        """Keep the call by which the test came here."""
        if self._entries:
            frame, arguments, began = self._entries[-1]
            self._missed[frame.f_code] = 0
            self._keep(frame.f_code, arguments)
            self._entries[-1] = (frame, None, began)

    def _keep(self, code: CodeType, arguments: Arguments | None) -> None:
        seen = self._seen.setdefault(code, {})
        if arguments is not None and len(seen) < MAX_SEEN:
            with contextlib.suppress(Exception):
                seen.setdefault(canonical(arguments), (arguments, self._origin))

    def _copy(self, frame: FrameType) -> Arguments | None:
        """Return a copy of the arguments as (positional, keywords), None for what cannot be copied."""
        code = frame.f_code
        if code in self._refused or len(self._seen.get(code, ())) >= MAX_SEEN:
            return None
        if code.co_flags & _RESUMED and frame.f_lineno != code.co_firstlineno:
            return None  # it goes on after a yield
        names, values = code.co_varnames, frame.f_locals
        count = code.co_argcount
        last = count + code.co_kwonlyargcount
        began = time.monotonic()
        try:
            positional = [values[name] for name in names[:count]]
            keywords = {name: values[name] for name in names[count:last]}
            if code.co_flags & _VARARGS:
                positional += values[names[last]]
                last += 1
            if code.co_flags & _VARKEYWORDS:
                keywords.update(values[names[last]])
            copied = copy.deepcopy((tuple(positional), keywords))
        except Exception:
            self._refused.add(code)
            return None
        if time.monotonic() - began > _COPY_S:
            self._refused.add(code)
        return copied
