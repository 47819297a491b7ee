"""Which rules may match a text, told by the words that stand in it: most texts need no closer look.

Bytes are looked through rather than letters, for taking a text apart by a table of them is the quickest way there is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

from lathe.guard.acts.sigma import Rule
from lathe.guard.acts.sigma_values import NEVER, Clue

_QUOTES = b"'\"\\"
_LETTERS = b"abcdefghijklmnopqrstuvwxyz0123456789_"
_JOINING = b".+-"
_PROGRAMS = bytes(byte if byte in _LETTERS + _JOINING else 32 for byte in range(256))
_NAMES = bytes(byte if byte in _LETTERS + b".-" or byte > 127 else 32 for byte in range(256))
_TOKENS = bytes(byte if byte in _LETTERS else 32 for byte in range(256))
_WHOLE = re.compile(rb"(?<=[^a-z0-9_])[a-z0-9_]+(?=[^a-z0-9_])")
_START = re.compile(rb"(?<=[^a-z0-9_])[a-z0-9_]{3,}")
_HEAD = 3
_LONGEST = 32_000
"""Letters up to which a pattern of a rule is tried on a whole text: nobody knows what it costs."""
_Patterns: TypeAlias = tuple[re.Pattern[str], ...]
_VARIABLE = re.compile(r"\$(?:\w+|\{[^{}]*\}|\([^()]*\))")


def names_in(text: str) -> set[bytes]:
    """Return the words of a text that may be names of hosts, addresses or hashes, in lower case."""
    words = set(text.lower().encode("utf-8", "replace").translate(_NAMES).split())
    return {word.strip(b".-") for word in words}


class _Clue(NamedTuple):
    """A clue in bytes."""

    programs: frozenset[bytes]
    pieces: tuple[bytes, ...]
    patterns: _Patterns


class RuleIndex:
    """Rules by their most telling clue; the others of those that are left are looked for then.

    A piece stands in a text only if the longest word within it does, or one that begins like the last word of it:
    these are told by sets. Of the rest, those that are words themselves are looked for in the text's words.
    """

    def __init__(self, rules: Sequence[Rule]) -> None:
        rules = [rule for rule in rules if NEVER not in rule.clues]
        self._always = [rule for rule in rules if not rule.clues]
        self._clues = {id(rule): list(map(_in_bytes, rule.clues)) for rule in rules}
        self._by_program: dict[bytes, list[Rule]] = {}
        self._by_piece: dict[bytes, list[Rule]] = {}
        self._by_pattern: dict[re.Pattern[str], list[Rule]] = {}
        for rule in rules:
            for first in self._clues[id(rule)][:1]:
                for name in first.programs:
                    self._by_program.setdefault(name, []).append(rule)
                for piece in first.pieces:
                    self._by_piece.setdefault(piece, []).append(rule)
                for pattern in first.patterns:
                    self._by_pattern.setdefault(pattern, []).append(rule)
        self._programs = frozenset(self._by_program)
        self._whole: dict[bytes, list[bytes]] = {}
        self._start: dict[bytes, list[bytes]] = {}
        self._within: list[bytes] = []
        self._open: list[bytes] = []
        for piece in self._by_piece:
            whole, start = _WHOLE.findall(piece), _START.search(piece)
            if whole:
                self._whole.setdefault(max(whole, key=len), []).append(piece)
            elif start is not None:
                self._start.setdefault(start[0][:_HEAD], []).append(piece)
            elif not piece.translate(None, _LETTERS + _JOINING):
                self._within.append(piece)
            else:
                self._open.append(piece)

    def worth(self, text: str) -> list[Rule]:
        """Return the rules that may match what `text` would run."""
        seen = _Seen(text)
        chosen = [rule for name in self._programs & seen.programs for rule in self._by_program[name]]
        pieces = list(self._open)
        for token in self._whole.keys() & seen.tokens:
            pieces += self._whole[token]
        for head in self._start.keys() & {token[:_HEAD] for token in seen.tokens}:
            pieces += self._start[head]
        words = b"\n".join(seen.programs)
        found = [piece for piece in pieces if piece in seen.data]
        found += [piece for piece in self._within if piece in words]
        for piece in found:
            chosen += self._by_piece[piece]
        for pattern, rules in self._by_pattern.items():
            if seen.pattern(pattern):
                chosen += rules
        once = {id(rule): rule for rule in chosen}
        return [*(rule for key, rule in once.items() if seen.all(self._clues[key])), *self._always]


def _in_bytes(clue: Clue) -> _Clue:
    pieces = tuple(piece.encode() for piece in sorted(clue.pieces))
    return _Clue(frozenset(name.encode() for name in clue.programs), pieces, tuple(clue.patterns))


class _Seen:
    """A text as it is looked through. Quotes within words hide nothing."""

    def __init__(self, text: str) -> None:
        self.text = text.replace("\\\n", "")
        self.data = self.text.lower().encode("utf-8", "replace").translate(None, _QUOTES)
        self.programs = frozenset(self.data.translate(_PROGRAMS).split())
        self.tokens = frozenset(b" ".join(self.programs).translate(_TOKENS).split())
        self._pieces: dict[bytes, bool] = {}
        self._spellings: list[str] = []

    def pattern(self, pattern: re.Pattern[str]) -> bool:
        if len(self.text) > _LONGEST:
            return True
        if not self._spellings:
            self._spellings = list(dict.fromkeys(self._spelled()))
        return any(pattern.search(one) for one in self._spellings)

    def _spelled(self) -> Iterator[str]:
        """Yield the text as commands may see it: a value that nobody can know is nothing, or something."""
        yield self.text
        bare = self.text.replace("'", "").replace('"', "").replace("\\", "")
        yield bare
        if "$" in bare:
            yield _VARIABLE.sub("", bare)
            yield _VARIABLE.sub("?", bare)

    def all(self, clues: Sequence[_Clue]) -> bool:
        for programs, pieces, patterns in clues:
            here = not programs.isdisjoint(self.programs) or self._has(pieces)
            if not here and not any(map(self.pattern, patterns)):
                return False
        return True

    def _has(self, pieces: Sequence[bytes]) -> bool:
        """Return whether one of the pieces stands in the text; clues of one rule name the same ones again."""
        known = self._pieces
        for piece in pieces:
            found = known.get(piece)
            if found is None:
                found = known[piece] = piece in self.data
            if found:
                return True
        return False
