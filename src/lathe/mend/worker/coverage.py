"""Which lines of the project each test runs: `sys.monitoring` from Python 3.12 on, a trace function before."""

from __future__ import annotations

import os
import sys
import threading
from types import CodeType, FrameType
from typing import Any, Literal

Lines = dict[str, set[int]]
Detail = Literal["lines", "calls", "none"]


class LineCoverage:
    """Collects lines of files under `root`; a call of a function counts as its `def` line.

    With `detail` "calls" it collects these alone, which costs less where there is no `sys.monitoring`, with "none"
    nothing.
    """

    def __init__(self, root: str, detail: Detail = "lines") -> None:
        self._prefix = root + os.sep
        self._detail = detail
        self._tracers: dict[CodeType, _Tracer | None] = {}
        self._lines: Lines = {}
        self._wanted: dict[str, bool] = {}
        self._monitoring: Any = getattr(sys, "monitoring", None)
        if self._monitoring is not None:
            self._register()

    def start(self) -> None:
        """Forget what was seen and look on."""
        self._lines = {}
        self._tracers = {}
        if self._detail == "none":
            return
        if self._monitoring is not None:
            events = self._monitoring.events
            self._monitoring.set_events(self._monitoring.COVERAGE_ID, events.LINE | events.PY_START)
            self._monitoring.restart_events()
            return
        threading.settrace(self._enter)
        sys.settrace(self._enter)

    def stop(self) -> dict[str, list[int]]:
        """Return the lines seen since `start`, by path relative to the root."""
        if self._detail == "none":
            return {}
        if self._monitoring is not None:
            self._monitoring.set_events(self._monitoring.COVERAGE_ID, 0)
        else:
            sys.settrace(None)
            threading.settrace(None)
        return {path[len(self._prefix) :]: sorted(lines) for path, lines in self._lines.items()}

    def _is_ours(self, path: str) -> bool:
        known = self._wanted.get(path)
        if known is None:
            known = self._wanted[path] = path.startswith(self._prefix)
        return known

    def _register(self) -> None:
        monitoring = self._monitoring
        monitoring.use_tool_id(monitoring.COVERAGE_ID, "lathe-mend")

        def seen(code: CodeType, number: int) -> object:
            path = code.co_filename
            if self._is_ours(path):
                line = number if number > 0 else code.co_firstlineno
                self._lines.setdefault(path, set()).add(line)
            return monitoring.DISABLE

        def entered(code: CodeType, offset: int) -> object:
            return seen(code, 0)

        monitoring.register_callback(monitoring.COVERAGE_ID, monitoring.events.LINE, seen)
        monitoring.register_callback(monitoring.COVERAGE_ID, monitoring.events.PY_START, entered)

    def _enter(self, frame: FrameType, event: str, argument: object) -> Any:
        code = frame.f_code
        if code not in self._tracers:
            self._tracers[code] = self._tracer(code)
        tracer = self._tracers[code]
        return None if tracer is None or tracer.is_done() else tracer.line

    def _tracer(self, code: CodeType) -> _Tracer | None:
        if not self._is_ours(code.co_filename):
            return None
        lines = self._lines.setdefault(code.co_filename, set())
        lines.add(code.co_firstlineno)
        return None if self._detail == "calls" else _Tracer(code, lines)


class _Tracer:
    """Notes the lines of one code object, until it has seen all of them."""

    def __init__(self, code: CodeType, lines: set[int]) -> None:
        self._left = {line for _, _, line in code.co_lines() if line is not None and line != code.co_firstlineno}

        def note(frame: FrameType, event: str, argument: object) -> Any:
            line = frame.f_lineno or frame.f_code.co_firstlineno
            lines.add(line)
            left.discard(line)
            return note

        left = self._left
        self.line = note

    def is_done(self) -> bool:
        """Return whether there is no line that was not seen."""
        return not self._left
