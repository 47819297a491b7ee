"""Words as the shell makes them: parameters, braces and quotes, with marks where nobody can know the value.

Facts: the manual of bash, "Shell Expansions".
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping

UNKNOWN = "\ue000"
"""Stands in a word for text that only the shell will know, and that may be empty."""

SOME = "\ue001"
"""Stands in a word for text that only the shell will know, and that is not empty."""

MOST_WORDS = 64
GLOB = re.compile(r"[*?\[]")
_SPECIAL = frozenset({"$", "!", "?", "#", "-", "RANDOM", "SECONDS", "PPID", "UID", "EUID", "LINENO", "EPOCHSECONDS"})
_PARAMETER = re.compile(
    r"\$(?:\{(?P<length>#)?(?P<long>\w+|[?#$!*@-])(?P<rest>.*)\}|(?P<short>\d|\w+|[?#$!*@-]))", re.DOTALL
)
_OPERATION = re.compile(r"(:?[-=?+]|%%?|##?|//?|\^\^?|,,?|:|\[)(.*)", re.DOTALL)
_BRACES = re.compile(r"\{([^{}]*,[^{}]*)\}")


def parameter(text: str, variables: Mapping[str, str]) -> str:
    """Return what `$name` or `${name…}` stands for, marked where that is not to be told."""
    found = _PARAMETER.fullmatch(text)
    if found is None:
        return UNKNOWN
    name = found["long"] or found["short"]
    if found["length"] or (name in _SPECIAL and not found["rest"]):
        return SOME
    value = variables.get(name, UNKNOWN)
    operation = _OPERATION.fullmatch(found["rest"] or "")
    return value if operation is None else _operated(value, operation[1], operation[2], variables)


def _operated(value: str, operator: str, operand: str, variables: Mapping[str, str]) -> str:
    known = UNKNOWN not in value and SOME not in value
    match operator:
        case ":-" | "-" | ":=" | "=":
            if known and value:
                return value
            return _PARAMETER.sub(lambda found: parameter(found[0], variables), operand.strip("\"'"))
        case ":?" | "?":
            return value if known and value else SOME
        case "%" | "%%" | "#" | "##" if known:
            return _trimmed(value, operator, operand.strip("\"'"))
        case "[":
            return value if operand in ("@]", "*]") else UNKNOWN
        case _:
            return UNKNOWN


def _trimmed(value: str, operator: str, pattern: str) -> str:
    cuts = range(len(value) + 1)
    if operator[0] == "%":
        starts = reversed(cuts) if len(operator) == 1 else cuts
        return next((value[:at] for at in starts if fnmatch.fnmatchcase(value[at:], pattern)), value)
    ends = cuts if len(operator) == 1 else reversed(cuts)
    return next((value[at:] for at in ends if fnmatch.fnmatchcase(value[:at], pattern)), value)


def braces(word: str) -> list[str]:
    """Return the words that `a{b,c}` stands for, in order; at most `MOST_WORDS`."""
    done: list[str] = []
    todo = [word]
    while todo and len(done) + len(todo) <= MOST_WORDS:
        one = todo.pop(0)
        found = _BRACES.search(one)
        if found is None:
            done.append(one)
        else:
            todo[:0] = [one[: found.start()] + part + one[found.end() :] for part in found[1].split(",")]
    return done + todo
