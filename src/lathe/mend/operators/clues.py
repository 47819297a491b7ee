"""What the failures say of the fault: which argument is missing, which exception was expected, which came instead.

The forms are those of CPython's own messages, of pytest and of unittest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

_MISSING = re.compile(r"TypeError: (?:[\w.]*?(\w+)\.)?([\w<>]+)\(\) missing \d+ required (?:\S+ )?arguments?: (.*)")
_TOO_FEW = re.compile(r"TypeError: (?:[\w.]*\.)?(\w+)(?:\(\))? (?:takes|expected) (?:exactly |at least )?\w+ .*")
_NOT_RAISED = re.compile(r"DID NOT RAISE (?:any of )?(.+)|AssertionError: (\w+) not raised")
_UNSET = re.compile(r"AttributeError: '[\w.]+' object has no attribute '(\w+)'")
_KEY = re.compile(r"KeyError: ('[^']*'|\"[^\"]*\"|-?\d+)$")
_CLASS = re.compile(r"(?:<class ')?(?:[\w.]*\.)?([A-Za-z_]\w*)(?:'>)?")
_NAME = re.compile(r"'(\w+)'")
_FAILURES = frozenset(("AssertionError", "Failed", "ExceptionGroup", ""))


class Clues(NamedTuple):
    """What was read from the messages of failing tests.

    `missing` are parameters that a call left out, by the name of what was called, `short` are functions that were
    called with too few or too many arguments, `expected` exceptions that should have been raised, `raised` those that
    were and should not have been. `unset` are attributes that an object had not, `keys` keys that were not found, as
    they are written, and `texts` what stands in the failing tests.
    """

    missing: dict[str, list[str]]
    short: frozenset[str]
    expected: tuple[str, ...]
    raised: tuple[str, ...]
    unset: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()

    @classmethod
    def of(cls, errors: Iterable[str], texts: Iterable[str] = ()) -> Clues:
        """Return what the messages say, each `Type: first line`, with the `texts` of the tests."""
        missing: dict[str, list[str]] = {}
        short: dict[str, None] = {}
        expected: dict[str, None] = {}
        raised: dict[str, None] = {}
        unset: dict[str, None] = {}
        keys: dict[str, None] = {}
        for error in errors:
            if found := _MISSING.match(error):
                owner, name, parameters = found.groups()
                called = owner if owner and name in ("__init__", "__new__") else name
                missing.setdefault(called, []).extend(_NAME.findall(parameters))
            elif found := _TOO_FEW.match(error):
                short[found.group(1)] = None
            elif found := _NOT_RAISED.search(error):
                names = found.group(1) or found.group(2)
                expected.update(dict.fromkeys(_CLASS.findall(names)[:4]))
                continue
            elif found := _UNSET.match(error):
                unset[found.group(1)] = None
            elif found := _KEY.match(error):
                keys[found.group(1)] = None
            kind = error.partition(":")[0].rpartition(".")[2]
            if kind not in _FAILURES and kind.isidentifier():
                raised[kind] = None
        return cls(
            missing, frozenset(short), tuple(expected), tuple(raised), tuple(unset), tuple(keys),
            tuple(dict.fromkeys(texts)),
        )  # fmt: skip


NONE = Clues.of(())
