"""The words of a program as the model of naturalness reads them.

Comments and blank lines are no words; a line break outside brackets is one word, which says whether what follows is
indented more, less or as before. Any stretch of a file can be read again alone, if depth and margin are known there.
"""

from __future__ import annotations

import re

NEWLINE, INDENT, DEDENT = "<nl>", "<nl+>", "<nl->"
MAX_STRING = 24

_TOKEN = re.compile(
    r"""[ \t\f]+|\\\r?\n|\#[^\r\n]*
    |(?P<newline>\r\n|\n|\r)
    |(?P<string>[rRbBuUfFtT]{0,2}(?:'{3}(?:[^\\]|\\.)*?'{3}|"{3}(?:[^\\]|\\.)*?"{3}
        |'(?:[^'\\\r\n]|\\.)*'|"(?:[^"\\\r\n]|\\.)*"))
    |(?P<number>0[xXbBoO][\da-fA-F_]+|(?:\d[\d_]*(?:\.[\d_]*)?|\.\d[\d_]*)(?:[eE][-+]?\d+)?[jJ]?)
    |(?P<name>\w+)
    |(?P<open>[(\[{])
    |(?P<close>[)\]}])
    |(?P<operator>\*\*=|//=|>>=|<<=|\.\.\.|[-+*/%@&|^=!<>:]=|->|\*\*|//|>>|<<|.)""",
    re.DOTALL | re.VERBOSE,
)


class Lexemes:
    """Words with, for each, where it starts and ends, how deep in brackets it stands and its line's margin."""

    __slots__ = ("depths", "ends", "margins", "starts", "words")

    def __init__(self) -> None:
        self.words: list[str] = []
        self.starts: list[int] = []
        self.ends: list[int] = []
        self.depths: list[int] = []
        self.margins: list[int] = []

    def add(self, word: str, start: int, end: int, depth: int, margin: int) -> None:
        """Append one word."""
        self.words.append(word)
        self.starts.append(start)
        self.ends.append(end)
        self.depths.append(depth)
        self.margins.append(margin)


def lex(text: str) -> Lexemes:
    """Return the words of a whole file. Never raises: what is no Python is read character by character."""
    found = Lexemes()
    depth = margin = 0
    broken = line = -1  # where the line break that was not yet followed by a word began, and where its last line did
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup
        if kind is None:
            continue
        start, end = match.span()
        if kind == "newline":
            if depth == 0:
                line = end
                if broken < 0 and found.words:
                    broken = start
            continue
        if broken >= 0:
            found.add(_break(start - line, margin), broken, start, depth, margin)
            margin, broken = start - line, -1
        found.add(_word(match.group(), kind), start, end, depth, margin)
        if kind == "open":
            depth += 1
        elif kind == "close" and depth:
            depth -= 1
    if broken >= 0:
        found.add(_break(len(text) - line, margin), broken, len(text), depth, margin)
    return found


def words_of(text: str, depth: int, margin: int) -> list[str]:
    """Return the words of a stretch of a file that begins at `depth` in a line with `margin`."""
    words: list[str] = []
    broken, line = False, 0
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup
        if kind is None:
            continue
        if kind == "newline":
            if depth == 0:
                line, broken = match.end(), True
            continue
        if broken:
            words.append(_break(match.start() - line, margin))
            margin, broken = match.start() - line, False
        words.append(_word(match.group(), kind))
        if kind == "open":
            depth += 1
        elif kind == "close" and depth:
            depth -= 1
    if broken:
        words.append(_break(len(text) - line, margin))
    return words


def class_of(word: str, before: str) -> str:
    """Return the class of `word` behind `before`: what stands for all the words that the model does not know."""
    first = word[0]
    if first == '"' or word[:2] in ('b"', 'f"'):
        return "<bytes>" if first == "b" else "<format>" if first == "f" else "<string>"
    if first.isdigit() or (first == "." and word not in (".", "...")):
        return "<float>" if "." in word or ("e" in word.lower() and "x" not in word.lower()) else "<integer>"
    if not (first.isalpha() or first == "_"):
        return "<operator>"
    if before == ".":
        return "<attribute>"
    if word.isupper() and len(word) > 1:
        return "<CONSTANT>"
    return "<Type>" if first.isupper() else "<_private>" if first == "_" else "<name>"


CLASSES = (
    "<bytes>", "<format>", "<string>", "<float>", "<integer>", "<operator>", "<attribute>", "<CONSTANT>", "<Type>",
    "<_private>", "<name>",
)  # fmt: skip


def _break(column: int, margin: int) -> str:
    return NEWLINE if column == margin else INDENT if column > margin else DEDENT


def _word(text: str, kind: str) -> str:
    """Return `text`, a string in one spelling: its quotes are double, and of its prefixes only b and f count."""
    if kind != "string":
        return text
    quote = min(at for at in (text.find("'"), text.find('"')) if at >= 0)
    width = 3 if text[quote : quote + 3] in ("'''", '"""') and len(text) >= quote + 6 else 1
    prefix = text[:quote].lower()
    shown = "f" if "f" in prefix or "t" in prefix else "b" if "b" in prefix else ""
    return f'{shown}"{text[quote + width : -width]}"'
