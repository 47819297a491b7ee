"""Putting a candidate's code into a project that is already imported.

Only functions are exchanged in place: their code and their defaults. Whatever else is evaluated when a module is
imported (constants, class bodies, decorators) may have been copied anywhere by then, so a candidate that changes it has
to be imported afresh; `Candidate.overlay` says so.
"""

from __future__ import annotations
import __future__

import gc
import io
import os
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, NamedTuple

Key = tuple[str, str, int]
Unit = tuple[int, int, int, int, str]
_OPTIMIZED = 0x1
_FUTURE = 0
for _name in __future__.all_feature_names:
    _FUTURE |= getattr(__future__, _name).compiler_flag


class Part(NamedTuple):
    """Edits (character offsets) of one file; `unit` is the function that holds them all, see `SourceFile.unit`."""

    file: str
    unit: Unit | None
    edits: Sequence[tuple[int, int, str]]


class Body(NamedTuple):
    """What can be exchanged in a function."""

    code: CodeType
    defaults: tuple[Any, ...] | None
    kwdefaults: dict[str, Any] | None

    @classmethod
    def of(cls, function: FunctionType) -> Body:
        """Return the body that a function has now."""
        return cls(function.__code__, function.__defaults__, function.__kwdefaults__)

    def put_into(self, function: FunctionType) -> None:
        """Let the function have this body."""
        function.__code__ = self.code
        function.__defaults__ = self.defaults
        function.__kwdefaults__ = self.kwdefaults


class Candidate(NamedTuple):
    """A program to try: `identity` is equal for equal programs; either `swaps` or an `overlay` of whole files."""

    identity: int
    swaps: tuple[tuple[FunctionType, Body], ...] = ()
    overlay: tuple[tuple[str, bytes], ...] = ()

    def install(self) -> list[tuple[FunctionType, Body]]:
        """Exchange the functions and return what to put back, or make the next import read the overlay."""
        before = [(function, Body.of(function)) for function, _ in self.swaps]
        for function, body in self.swaps:
            body.put_into(function)
        if self.overlay:
            _read_from(dict(self.overlay))
        return before


class Programs:
    """Makes candidates from edits of the project's files, which must have been imported by now."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._sources: dict[str, str] = {}
        self._encodings: dict[str, str] = {}
        self._flags: dict[str, int] = {}
        self._units: dict[tuple[str, int], CodeType] = {}
        self._live: dict[Key, list[FunctionType]] = {}
        prefix = root + os.sep
        for thing in gc.get_objects():
            if type(thing) is FunctionType and thing.__code__.co_filename.startswith(prefix):
                self._live.setdefault(_key(thing.__code__), []).append(thing)

    def functions(self) -> Iterator[FunctionType]:
        """Yield the project's functions as far as they existed when the tests were collected."""
        for functions in self._live.values():
            yield from functions

    def candidate(self, parts: Sequence[Part]) -> Candidate:
        """Return the program with all edits of `parts`.

        Only the functions that hold them are compiled, where these can be exchanged. Evaluates defaults of functions
        that are edited. Raises `SyntaxError` or `ValueError` for what is no Python, and whatever a default raises.
        """
        swaps: list[tuple[FunctionType, Body]] = []
        for part in parts:
            found = self._exchange(part) if part.unit is not None else None
            if found is None:
                return self._whole(parts)
            swaps += found
        identity = tuple(
            (_key(function.__code__), fingerprint(body.code), _text(body.defaults), _text(body.kwdefaults))
            for function, body in swaps
        )
        return Candidate(hash(identity), swaps=tuple(swaps))

    def _whole(self, parts: Sequence[Part]) -> Candidate:
        edits: dict[str, list[tuple[int, int, str]]] = {}
        for part in parts:
            edits.setdefault(part.file, []).extend(part.edits)
        overlay, prints = [], []
        for name, changes in sorted(edits.items()):
            path = f"{self._root}{os.sep}{name}"
            text = _apply(self._source(path), changes)
            prints.append((name, fingerprint(self._compile(path, text, 1))))
            overlay.append((path, text.encode(self._encodings[path])))
        return Candidate(hash(tuple(prints)), overlay=tuple(overlay))

    def _source(self, path: str) -> str:
        if path not in self._sources:
            data = Path(path).read_bytes()
            encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
            self._encodings[path] = encoding
            text = self._sources[path] = data.decode(encoding)
            try:
                self._flags[path] = compile(text, path, "exec", dont_inherit=True).co_flags & _FUTURE
            except SyntaxError:
                self._flags[path] = 0
        return self._sources[path]

    def _compile(self, path: str, text: str, line: int) -> CodeType:
        padded = "\n" * (line - 1) + text
        code: CodeType = compile(padded, path, "exec", flags=self._flags[path], dont_inherit=True)
        return code

    def _unit(self, path: str, start: int, text: str, line: int) -> CodeType:
        if (path, start) not in self._units:
            self._units[path, start] = self._compile(path, text, line)
        return self._units[path, start]

    def _exchange(self, part: Part) -> list[tuple[FunctionType, Body]] | None:
        """Return the functions to exchange, or None where that is not enough."""
        assert part.unit is not None
        path = f"{self._root}{os.sep}{part.file}"
        text = self._source(path)
        start, end, line, decorated, headers = part.unit
        first = line - headers.count("\n")
        shifted = [(low - start, high - start, new) for low, high, new in part.edits]
        new = self._compile(path, headers + _apply(text[start:end], shifted), first)
        old = self._unit(path, start, headers + text[start:end], first)
        lines = Counter(_key(code) for code in _all_nested(old))
        pairs = _changed(old, new)
        evaluated = None
        if pairs is None:
            evaluated = self._evaluated(path, new)
            pairs = _outer_pair(old, new) if evaluated is not None else None
        if pairs is None:
            return None
        swaps: list[tuple[FunctionType, Body]] = []
        for before, after, required in pairs:
            key = _key(before)
            if key[2] == line and not key[1].startswith("<"):
                key = (path, key[1], decorated)
            functions = self._live.get(key, [])
            if required and not functions:
                return None
            if any(function.__code__.co_freevars != after.co_freevars for function in functions):
                return None
            if lines[_key(before)] > 1:
                return None  # two functions on one line: which is which cannot be told
            for function in functions:
                body = evaluated if evaluated is not None and required else Body.of(function)._replace(code=after)
                swaps.append((function, body))
        return swaps

    def _evaluated(self, path: str, unit: CodeType) -> Body | None:
        """Return the one function that `unit` defines, with its defaults evaluated among the module's names."""
        module = next((one for one in list(sys.modules.values()) if getattr(one, "__file__", None) == path), None)
        if module is None:
            return None
        pair = _outer_pair(unit, unit)
        if pair is None:
            return None
        namespace = dict(vars(module))
        exec(unit, namespace)  # the candidate's own defaults, in a child under limits
        name = next(_nested(unit)).co_name
        value = namespace.get(name)
        while isinstance(value, type):
            inside = [one for one in vars(value).values() if isinstance(one, (type, FunctionType))]
            value = inside[0] if len(inside) == 1 else None
        if not isinstance(value, FunctionType) or value.__code__ is not pair[0][0]:
            return None  # a decorator has made something else of it
        return Body.of(value)


def _changed(old: CodeType, new: CodeType) -> list[tuple[CodeType, CodeType, bool]] | None:
    """Return pairs of function bodies that differ between two bodies run at import; None if the bodies differ too."""
    if _shape(old) != _shape(new):
        return None
    found: list[tuple[CodeType, CodeType, bool]] = []
    for before, after in zip(_nested(old), _nested(new), strict=True):
        if before.co_flags & _OPTIMIZED:
            found += _changed_functions(before, after, required=True)
        else:
            inside = _changed(before, after)
            if inside is None:
                return None
            found += inside
    return found


def _outer_pair(old: CodeType, new: CodeType) -> list[tuple[CodeType, CodeType, bool]] | None:
    """Return the one function of each of two units as a pair."""
    while True:
        before, after = list(_nested(old)), list(_nested(new))
        if len(before) != 1 or len(after) != 1 or before[0].co_name != after[0].co_name:
            return None
        old, new = before[0], after[0]
        if old.co_flags & _OPTIMIZED:
            return [(old, new, True)]


def _changed_functions(old: CodeType, new: CodeType, *, required: bool) -> Iterator[tuple[CodeType, CodeType, bool]]:
    if fingerprint(old) == fingerprint(new):
        return
    yield old, new, required
    inner_old, inner_new = list(_nested(old)), list(_nested(new))
    if [code.co_name for code in inner_old] == [code.co_name for code in inner_new]:
        for before, after in zip(inner_old, inner_new, strict=True):
            yield from _changed_functions(before, after, required=False)


def _nested(code: CodeType) -> Iterator[CodeType]:
    return (constant for constant in code.co_consts if isinstance(constant, CodeType))


def _all_nested(code: CodeType) -> Iterator[CodeType]:
    for inner in _nested(code):
        yield inner
        yield from _all_nested(inner)


def _shape(code: CodeType) -> object:
    """Return what a body does by itself, whatever the functions in it do."""
    constants = tuple(
        ("code", constant.co_name) if isinstance(constant, CodeType) else (type(constant).__name__, repr(constant))
        for constant in code.co_consts
    )
    return (code.co_code, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars, constants)


def fingerprint(code: CodeType) -> object:
    """Return a value that is equal for code that does the same, wherever it stands in its file."""
    constants = tuple(
        fingerprint(constant) if isinstance(constant, CodeType) else (type(constant).__name__, repr(constant))
        for constant in code.co_consts
    )
    table = getattr(code, "co_exceptiontable", b"")
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    return (code.co_name, code.co_argcount, code.co_flags, code.co_code, names, table, constants)


def _text(values: object) -> str:
    """Return defaults as text; those of no use as text are told apart by where they are."""
    try:
        return repr(values)
    except Exception:
        return str(id(values))


def _key(code: CodeType) -> Key:
    return (code.co_filename, code.co_name, code.co_firstlineno)


def _apply(text: str, edits: Sequence[tuple[int, int, str]]) -> str:
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    return text


def _read_from(overlay: dict[str, bytes]) -> None:
    original = SourceFileLoader.get_data

    def get_data(self: SourceFileLoader, path: str) -> bytes:
        return overlay[path] if path in overlay else original(self, path)

    SourceFileLoader.get_data = get_data  # type: ignore[method-assign, assignment]  # the point of an overlay
