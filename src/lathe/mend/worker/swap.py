"""Putting a candidate's code into a project that is already imported.

Only the bodies of functions are exchanged in place. Whatever is evaluated when a module is imported (defaults,
constants, class bodies, decorators) may have been copied anywhere by then, so a candidate that changes it has to be
imported afresh; `Candidate.overlay` says so.
"""

from __future__ import annotations
import __future__

import gc
import io
import os
import tokenize
from collections import Counter
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, FunctionType
from typing import NamedTuple

Key = tuple[str, str, int]
_OPTIMIZED = 0x1
_FUTURE = 0
for _name in __future__.all_feature_names:
    _FUTURE |= getattr(__future__, _name).compiler_flag


class Candidate(NamedTuple):
    """A program to try: `identity` is equal for equal programs; either `swaps` or an `overlay` of whole files."""

    identity: object
    swaps: tuple[tuple[FunctionType, CodeType], ...] = ()
    overlay: tuple[tuple[str, bytes], ...] = ()

    def install(self) -> None:
        """Exchange the functions' code, or make the next import read the overlay."""
        for function, code in self.swaps:
            function.__code__ = code
        if self.overlay:
            _read_from(dict(self.overlay))


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

    def candidate(self, name: str, edits: list[tuple[int, int, str]], unit: tuple[int, int, int] | None) -> Candidate:
        """Return the program with `edits` (character offsets) in the file `name`.

        `unit` is start, end and first line of the top-level statement that holds all edits; only that is compiled
        where its functions can be exchanged. Raises `SyntaxError` or `ValueError` for what is no Python.
        """
        path = f"{self._root}{os.sep}{name}"
        text = self._source(path)
        if unit is not None:
            start, end, line = unit
            shifted = [(low - start, high - start, new) for low, high, new in edits]
            changed = self._compile(path, _apply(text[start:end], shifted), line)
            swaps = self._exchange(self._unit(path, text[start:end], line, start), changed)
            if swaps is not None:
                identity = (name, tuple((_key(function.__code__), fingerprint(code)) for function, code in swaps))
                return Candidate(identity, swaps=tuple(swaps))
        whole = _apply(text, edits)
        code = self._compile(path, whole, 1)
        return Candidate((name, fingerprint(code)), overlay=((path, whole.encode(self._encodings[path])),))

    def _source(self, path: str) -> str:
        if path not in self._sources:
            data = Path(path).read_bytes()
            encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
            self._encodings[path] = encoding
            self._sources[path] = data.decode(encoding)
            base = compile(self._sources[path], path, "exec", dont_inherit=True)
            self._flags[path] = base.co_flags & _FUTURE
        return self._sources[path]

    def _compile(self, path: str, text: str, line: int) -> CodeType:
        padded = "\n" * (line - 1) + text
        code: CodeType = compile(padded, path, "exec", flags=self._flags[path], dont_inherit=True)
        return code

    def _unit(self, path: str, text: str, line: int, start: int) -> CodeType:
        if (path, start) not in self._units:
            self._units[path, start] = self._compile(path, text, line)
        return self._units[path, start]

    def _exchange(self, old: CodeType, new: CodeType) -> list[tuple[FunctionType, CodeType]] | None:
        """Return the functions to exchange, or None where that is not enough."""
        pairs = _changed(old, new)
        if pairs is None:
            return None
        swaps: list[tuple[FunctionType, CodeType]] = []
        lines = Counter(_key(code) for code in _all_nested(old))
        for before, after, required in pairs:
            functions = self._live.get(_key(before), [])
            if required and not functions:
                return None
            if any(function.__code__.co_freevars != after.co_freevars for function in functions):
                return None
            if lines[_key(before)] > 1:
                return None  # two functions on one line: which is which cannot be told
            swaps += [(function, after) for function in functions]
        return swaps


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


def _key(code: CodeType) -> Key:
    return (code.co_filename, code.co_name, code.co_firstlineno)


def _apply(text: str, edits: list[tuple[int, int, str]]) -> str:
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    return text


def _read_from(overlay: dict[str, bytes]) -> None:
    original = SourceFileLoader.get_data

    def get_data(self: SourceFileLoader, path: str) -> bytes:
        return overlay[path] if path in overlay else original(self, path)

    SourceFileLoader.get_data = get_data  # type: ignore[method-assign, assignment]  # the point of an overlay
