"""Regular expressions as Go writes them (RE2 syntax), turned into what Python's `re` takes.

The syntax is that of https://github.com/google/re2/wiki/Syntax. The result is meant for `re.ASCII`: in Go the classes
`\\d`, `\\w`, `\\s` and `\\b` know ASCII only.
"""

from __future__ import annotations

import functools
import re
import sys
from typing import NamedTuple

_POSIX = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "ascii": "\\x00-\\x7f",
    "blank": "\\t ",
    "cntrl": "\\x00-\\x1f\\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": "!-/:-@\\[-`{-~",
    "space": "\\t\\n\\v\\f\\r ",
    "upper": "A-Z",
    "word": "0-9A-Za-z_",
    "xdigit": "0-9A-Fa-f",
}
_FLAGS = re.compile(r"\(\?([imsU]*)(?:-([imsU]+))?([:)])")
_NAMED = re.compile(r"\(\?P?<([A-Za-z_]\w*)>")
_POSIX_CLASS = re.compile(r"\[:(\^?)(\w+):\]")
_HEX = re.compile(r"\\x\{([0-9A-Fa-f]{1,6})\}")
_UNICODE = re.compile(r"\\([pP])(?:\{(\^?)(\w+)\}|(\w))")
_REPEAT = re.compile(r"\{(\d+)(?:,(\d*))?\}")
_MOST_REPEATS = 1000
_KEPT_ESCAPES = frozenset("dDwWsSbBAafnrtv")
_LAST = sys.maxunicode


class NoTranslation(ValueError):
    """An expression that Go does not take either, or that Python has no form for; the message says what."""


class _Group(NamedTuple):
    """An open group: the flags in force before it, and the beginnings of the scopes of flags open in it."""

    flags: str
    scopes: list[str]


def python_pattern(expression: str) -> str:
    """Return `expression` as Python writes it, to be compiled with `re.ASCII`; raise `NoTranslation`."""
    return _Translation(expression).run()


class _Translation:
    def __init__(self, expression: str) -> None:
        self._text = expression
        self._at = 0
        self._out: list[str] = []
        self._flags = ""
        self._groups: list[_Group] = [_Group("", [])]

    def run(self) -> str:
        while self._at < len(self._text):
            self._step(self._text[self._at])
        if len(self._groups) > 1:
            raise NoTranslation("a parenthesis is not closed")
        self._close_scopes()
        pattern = "".join(self._out)
        try:
            re.compile(pattern, re.ASCII)
        except (re.error, OverflowError, RecursionError) as error:
            raise NoTranslation(str(error)) from None
        return pattern

    def _step(self, char: str) -> None:
        match char:
            case "\\":
                self._escape()
            case "[":
                self._class()
            case "(":
                self._open()
            case ")":
                self._close()
            case "|":
                # Flags that were set in the middle hold for the alternatives after it, too.
                scopes = self._groups[-1].scopes
                self._put(")" * len(scopes) + "|" + "".join(scopes))
            case "$":
                self._put("$" if "m" in self._flags else "\\Z")
            case "*" | "+" | "?" | "{":
                self._repeat()
            case _:
                self._put(char)

    def _put(self, piece: str, width: int = 1) -> None:
        self._out.append(piece)
        self._at += width

    def _repeat(self) -> None:
        found = _REPEAT.match(self._text, self._at)
        if self._text[self._at] == "{" and found is None:
            self._put("\\{")
            return
        if found and max(int(found[1]), int(found[2] or 0)) > _MOST_REPEATS:
            raise NoTranslation(f"{found[0]} repeats more than {_MOST_REPEATS} times")
        width = len(found[0]) if found else 1
        lazy = self._text[self._at + width : self._at + width + 1] == "?"
        self._put(self._text[self._at : self._at + width] + "?" * lazy, width + lazy)
        if self._text[self._at : self._at + 1] in ("*", "+", "?") or _REPEAT.match(self._text, self._at):
            raise NoTranslation("a repetition is repeated")

    def _open(self) -> None:
        rest = self._text[self._at : self._at + 3]
        if not rest.startswith("(?"):
            self._groups.append(_Group(self._flags, []))
            self._put("(")
            return
        if named := _NAMED.match(self._text, self._at):
            self._groups.append(_Group(self._flags, []))
            self._put(f"(?P<{named[1]}>", len(named[0]))
            return
        found = _FLAGS.match(self._text, self._at)
        if found is None or found[0] == "(?)":
            raise NoTranslation(f"there is no group {self._text[self._at : self._at + 4]}")
        on, off, end = found[1], found[2] or "", found[3]
        if "U" in on + off:
            raise NoTranslation("the flag U has no form in Python")
        before = self._flags
        self._flags = "".join(sorted((set(before) | set(on)) - set(off)))
        written = "".join(dict.fromkeys(on)) + (f"-{''.join(dict.fromkeys(off))}" if off else "")
        opened = f"(?{written}:"
        if end == ":":
            self._groups.append(_Group(before, []))
        else:
            self._groups[-1].scopes.append(opened)
        self._put(opened, len(found[0]))

    def _close(self) -> None:
        if len(self._groups) == 1:
            raise NoTranslation("a parenthesis is closed that was not opened")
        self._close_scopes()
        self._flags = self._groups.pop().flags
        self._put(")")

    def _close_scopes(self) -> None:
        self._out.append(")" * len(self._groups[-1].scopes))

    def _escape(self) -> None:
        if self._text.startswith("\\Q", self._at):
            end = self._text.find("\\E", self._at)
            quoted = self._text[self._at + 2 : end if end >= 0 else len(self._text)]
            self._put(re.escape(quoted), len(quoted) + (4 if end >= 0 else 2))
            return
        if found := _UNICODE.match(self._text, self._at):
            self._put(f"[{_category(found)}]", len(found[0]))
            return
        if self._text.startswith("\\z", self._at):
            self._put("\\Z", 2)
            return
        self._put(*self._character())

    def _character(self) -> tuple[str, int]:
        """Return an escaped character in Python's form, and how many characters of the expression it takes."""
        if found := _HEX.match(self._text, self._at):
            code = int(found[1], 16)
            if code > _LAST:
                raise NoTranslation(f"there is no character {found[0]}")
            return _code(code), len(found[0])
        if octal := re.compile(r"\\(0[0-7]{0,2}|[1-7][0-7]{2})").match(self._text, self._at):
            return _code(int(octal[1], 8)), len(octal[0])
        char = self._text[self._at + 1 : self._at + 2]
        if not char:
            raise NoTranslation("it ends in a backslash")
        if char == "x" or not char.isalnum() or char in _KEPT_ESCAPES:
            return f"\\{char}", 2
        raise NoTranslation(f"there is no escape \\{char}")

    def _class(self) -> None:
        start = self._at
        self._put("[")
        if self._text.startswith("^", self._at):
            self._put("^")
        first = True
        while self._at < len(self._text):
            char = self._text[self._at]
            if char == "]" and not first:
                self._put("]")
                return
            first = False
            if char == "\\":
                if found := _UNICODE.match(self._text, self._at):
                    self._put(_category(found), len(found[0]))
                elif self._text.startswith("\\b", self._at):
                    raise NoTranslation("there is no escape \\b in a class")
                else:
                    self._put(*self._character())
            elif found := _POSIX_CLASS.match(self._text, self._at):
                if found[2] not in _POSIX:
                    raise NoTranslation(f"there is no class {found[0]}")
                members = _POSIX[found[2]]
                self._put(_complement(members) if found[1] else members, len(found[0]))
            else:
                # Python reads some doubled characters as operations on sets, or will.
                self._put(f"\\{char}" if char in "[]&~|" else char)
        raise NoTranslation(f"the class {self._text[start : start + 10]} is not closed")


def _code(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\U{code:08x}"


def _ranges(codes: list[bool]) -> str:
    """Return the characters whose codes are True, as the inside of a class."""
    found, start = [], -1
    for code, inside in enumerate([*codes, False]):
        if inside and start < 0:
            start = code
        elif not inside and start >= 0:
            found.append(f"{_code(start)}-{_code(code - 1)}")
            start = -1
    return "".join(found)


def _complement(members: str) -> str:
    inside = re.compile(f"[{members}]")
    return _ranges([inside.match(chr(code)) is None for code in range(0x80)]) + f"\\x80-{_code(_LAST)}"


def _category(found: re.Match[str]) -> str:
    negated = (found[1] == "P") != (found[2] == "^")
    return _members(found[3] or found[4], negated)


@functools.cache
def _members(name: str, negated: bool) -> str:
    """Return the characters of a general category of Unicode (`L`, `Lu`), as the inside of a class."""
    import unicodedata

    inside = [unicodedata.category(chr(code)).startswith(name) for code in range(_LAST + 1)]
    if not any(inside):
        raise NoTranslation(f"there is no form for the class of characters {name}")
    return _ranges([one != negated for one in inside])
