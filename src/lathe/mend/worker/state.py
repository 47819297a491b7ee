"""What a candidate may leave behind in a process that goes on: found and put back before the next one.

That is an approximation, which decides only what is worth a child of its own: what passes there has proven itself in
a process in which no other candidate ran.
"""

from __future__ import annotations

import collections
import copy
import functools
import gc
import io
import os
import pickle
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

_PLAIN = (int, float, complex, str, bytes, bool, type(None), type, FunctionType, ModuleType)
_CONTAINERS: tuple[type[Any], ...] = (
    list, dict, set, bytearray, collections.deque, collections.OrderedDict, collections.defaultdict, collections.Counter
)  # fmt: skip
_CHECK_S = 0.00005
_MAX_SNAPSHOT = 1 << 18


class State:
    """Mutable values that the project's modules, classes and defaults hold, as they were after the import."""

    def __init__(self, root: str, functions: Iterable[FunctionType]) -> None:
        self._root = root + os.sep
        self._names: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self._values: list[tuple[Any, bytes]] = []
        self._known: dict[int, Any] = {}
        self._caches: list[Any] = []
        self._seen: set[int] = set()
        modules = [module for module in list(sys.modules.values()) if self._is_ours(module)]
        for module in modules:
            self._names.append((vars(module), dict(vars(module))))
            for value in list(vars(module).values()):
                self._add(value)
        for function in functions:
            for value in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
                self._add(value)
        self._caches = [one for one in gc.get_objects() if isinstance(one, functools._lru_cache_wrapper)]
        self._caches = [one for one in self._caches if _file_of(one).startswith(self._root)]
        self._environment: dict[Any, Any] = vars(os.environ)["_data"]  # dict(os.environ) decodes every entry
        self._environment_before = dict(self._environment)
        self._folder = str(Path.cwd())
        self._depth = sys.getrecursionlimit()
        self._turn = 0
        self._take_pictures()
        self._objects = [entry for entry in self._values if type(entry[0]) not in _CONTAINERS]
        before = time.perf_counter()
        self._check_values(self._values)
        self._every = 1 + int((time.perf_counter() - before) / _CHECK_S)

    def holders(self) -> set[str]:
        """Return the files whose modules hold objects of the project's own classes, which tests may share."""
        found = set()
        for names, _ in self._names:
            if any(id(value) in self._known and type(value) not in _CONTAINERS for value in names.values()):
                found.add(str(names.get("__file__")))
        return found

    def restore(self) -> None:
        """Put everything back; containers, where they take long to look through, only now and then."""
        for cache in self._caches:
            cache.cache_clear()
        for names, before in self._names:
            if not _equal(names, before):
                _put_back(names, before)
        self._turn += 1
        is_due = self._turn % self._every == 0
        self._check_values(self._values if is_due else self._objects)
        if self._environment != self._environment_before:
            os.environ.clear()
            os.environ.update({os.fsdecode(name): os.fsdecode(text) for name, text in self._environment_before.items()})
        if sys.getrecursionlimit() != self._depth:
            sys.setrecursionlimit(self._depth)
        try:
            if os.getcwd() == self._folder:  # noqa: PTH109 (a string is all that is asked)
                return
        except OSError:
            pass
        os.chdir(self._folder)

    def _is_ours(self, module: Any) -> bool:
        return str(getattr(module, "__file__", None) or "").startswith(self._root)

    def _add(self, value: Any) -> None:
        if isinstance(value, type) and self._is_ours(sys.modules.get(value.__module__)):
            if id(value) not in self._seen:
                self._seen.add(id(value))
                for inner in list(vars(value).values()):
                    self._add(inner)
            return
        if type(value) in _PLAIN or id(value) in self._seen:
            return
        own = type(value).__module__ in sys.modules and self._is_ours(sys.modules[type(value).__module__])
        if type(value) not in _CONTAINERS and not (own and hasattr(value, "__dict__")):
            return
        self._seen.add(id(value))
        self._known[id(value)] = value

    def _take_pictures(self) -> None:
        for value in self._known.values():
            shot = self._contents(value)
            if shot is not None and len(shot) <= _MAX_SNAPSHOT:
                self._values.append((value, shot))

    def _check_values(self, values: Sequence[tuple[Any, bytes]]) -> None:
        for value, shot in values:
            if self._contents(value) != shot:
                _fill(value, _Unpickler(io.BytesIO(shot), self._known).load())

    def _contents(self, value: Any) -> bytes | None:
        """Return what is in a value, with other known values named and not copied; None where that cannot be."""
        contents = vars(value) if hasattr(value, "__dict__") and type(value) not in _CONTAINERS else value
        if contents is value and _is_simple(value):
            return _picture(value)
        buffer = io.BytesIO()
        try:
            _Pickler(buffer, self._known, value).dump(contents)
        except Exception:
            return None
        return buffer.getvalue()


class _Pickler(pickle.Pickler):
    def __init__(self, buffer: io.BytesIO, known: dict[int, Any], root: Any) -> None:
        super().__init__(buffer, protocol=4)
        self._known = known
        self._root = root

    def persistent_id(self, value: Any) -> int | None:
        return id(value) if value is not self._root and id(value) in self._known else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, buffer: io.BytesIO, known: dict[int, Any]) -> None:
        super().__init__(buffer)
        self._known = known

    def persistent_load(self, number: Any) -> Any:
        return self._known[number]


class Fresh:
    """A value that is handed out afresh each time, because who gets it may change it."""

    def __init__(self, value: dict[str, Any]) -> None:
        self._value = value
        self._make: Callable[[], dict[str, Any]] | None = None
        if not all(_is_fixed(inner) for inner in value.values()):
            shot = _picture(value)
            if shot is not None:
                self._make = lambda: pickle.loads(shot)
            else:
                self._make = lambda: copy.deepcopy(value)

    def get(self) -> dict[str, Any]:
        """Return the value; the very one where it cannot be copied."""
        if self._make is None:
            return self._value
        try:
            return self._make()
        except Exception:
            self._make = None
            return self._value


def _is_simple(value: Any) -> bool:
    """Return whether a container holds plain values alone, to any depth."""
    if isinstance(value, dict):
        return all(_is_simple(inner) for pair in value.items() for inner in pair)
    if type(value) in (list, tuple, set, frozenset, collections.deque):
        return all(_is_simple(inner) for inner in value)
    return type(value) in _PLAIN


def _is_fixed(value: Any) -> bool:
    if type(value) is tuple:
        return all(_is_fixed(inner) for inner in value)
    return type(value) in _PLAIN


def _picture(value: Any) -> bytes | None:
    """Return a value as bytes, alike for like contents as far as it was not copied; None where that cannot be."""
    try:
        return pickle.dumps(value, protocol=4)
    except Exception:
        return None


def _file_of(cache: Any) -> str:
    return str(getattr(getattr(cache.__wrapped__, "__code__", None), "co_filename", ""))


def _equal(names: dict[str, Any], before: dict[str, Any]) -> bool:
    """Return whether nothing was bound anew; a comparison of two dictionaries looks at identity first."""
    try:
        return bool(names == before)
    except Exception:
        return False


def _put_back(names: dict[str, Any], before: dict[str, Any]) -> None:
    changed = [name for name, value in before.items() if names.get(name, names) is not value]
    for name in changed:
        names[name] = before[name]
    if len(names) != len(before):
        for name in names.keys() - before.keys():
            del names[name]


def _fill(value: Any, contents: Any) -> None:
    """Let `value` have other contents and stay the same object."""
    if isinstance(value, (list, bytearray)):
        value[:] = contents
    elif isinstance(value, collections.deque):
        value.clear()
        value.extend(contents)
    elif isinstance(value, (dict, set)):
        value.clear()
        value.update(contents)
    else:
        vars(value).clear()
        vars(value).update(contents)
