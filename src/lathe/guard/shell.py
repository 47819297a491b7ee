"""What a line of shell would run, read without running it.

The answer is advice for approvals, never a boundary: the sandbox is that. It errs on one side only. Every simple
command that the text shows is reported, so that a rule can forbid it; and where bash might see something else than
we do (`opaque`, `broken`), nothing is vouched for. Plain lines are read here; the rest by tree-sitter-bash, which
is loaded when the first such line comes, for it costs about 15 ms and 6 MB.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from lathe.guard.wrappers import Inner, Words, unwrap

LONGEST = 1_000_000
_DEEPEST = 8


class Part(NamedTuple):
    """A simple command.

    `words` are its words after quote removal, None for one that only the shell will know; a pattern (`*.py`) stays
    as written, and `stray` is True where a word may turn out to be an option: an unknown one, or a pattern that
    begins with a wildcard. `assigns` are the variables set before it. `inside` is the index of the wrapper
    that starts it (`sudo`, `bash -c`), and `clear` is True for a wrapper that adds no power of its own.
    """

    words: Words
    stray: bool = False
    assigns: tuple[str, ...] = ()
    inside: int | None = None
    clear: bool = False

    @property
    def known(self) -> tuple[str, ...] | None:
        """The words where all of them are literal, else None."""
        literal = tuple(word for word in self.words if word is not None)
        return literal if len(literal) == len(self.words) else None


class Analysis(NamedTuple):
    """A line of shell. `writes` are the targets of redirections, None for one that only the shell will know.

    `opaque`: something in it runs or decides what runs in a way the text does not show. `broken`: it could not be
    parsed for sure, and parts may be missing.
    """

    parts: tuple[Part, ...]
    writes: tuple[str | None, ...] = ()
    opaque: bool = False
    broken: bool = False


class Found:
    """What the readers collect."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.writes: list[str | None] = []
        self.texts: list[str] = []
        self.opaque = False
        self.broken = False
        self.reads_scripts = False


def analyse(command: str) -> Analysis:
    """Return every simple command of `command`, those inside substitutions and wrappers too; never raises."""
    found = Found()
    _read(command, found, None, 0)
    if found.reads_scripts:
        # A shell here runs a text that we do not know: read all texts at hand as scripts, so that rules see them.
        for text in found.texts:
            _read(text, found, None, _DEEPEST - 1)
        found.opaque = True
    return Analysis(tuple(found.parts), tuple(found.writes), found.opaque, found.broken)


def split_command(command: str) -> list[list[str | None]] | None:
    """Return the words of every simple command; None for a word that only the shell will know.

    None where the line could not be parsed for sure.
    """
    analysis = analyse(command)
    return None if analysis.broken else [list(part.words) for part in analysis.parts if part.words]


def _read(command: str, found: Found, inside: int | None, depth: int) -> None:
    if depth > _DEEPEST or len(command) > LONGEST or "\0" in command or "\r" in command:
        found.broken = True
        return
    simple = plain_parts(command)
    if simple is None:
        from lathe.guard.shell_tree import read_tree

        read = Found()
        read_tree(command, read)
        simple = read.parts
        found.writes += read.writes
        found.texts += read.texts
        found.opaque |= read.opaque
        found.broken |= read.broken
    for part in simple:
        add_part(part, found, inside, depth)


def add_part(part: Part, found: Found, inside: int | None, depth: int) -> None:
    """Add `part` and whatever it starts in its turn."""
    inner = unwrap(part.words)
    index = len(found.parts)
    found.parts.append(part._replace(inside=inside, clear=inner is not None and inner.clear))
    if part.words[:1] in (("echo",), ("printf",)):
        found.texts += [word for word in part.words[1:] if word is not None]
    if inner is not None:
        _follow(inner, part, found, index, depth)


def _follow(inner: Inner, part: Part, found: Found, index: int, depth: int) -> None:
    found.opaque |= not inner.sound
    found.reads_scripts |= inner.stdin
    assigns = (*part.assigns, *inner.assigns)
    for argv in inner.argvs:
        if depth >= _DEEPEST:
            found.broken = True
            return
        stray = None in argv or part.stray
        add_part(Part(argv, stray, assigns), found, index, depth + 1)
    for script in inner.scripts:
        if script is None:
            found.reads_scripts = True
        elif script.strip():
            _read(script, found, index, depth + 1)


_TOKEN = re.compile(
    r"""[ \t]+(?P<stream>(?:2>&1|[12]?>[ \t]?/dev/null)(?=[ \t;|]|$))
      | [ \t]*(?:
        (?P<word>(?:[A-Za-z0-9_./:@%+,=^-]|'[^']*'|"[^"$`\\!]*")+)
      | (?P<next>&&|\|\||;(?!;)|\|(?![|&]))
    )""",
    re.VERBOSE,
)
_QUOTES = re.compile(r"""'([^']*)'|"([^"]*)\"""")
_KEYWORDS = frozenset(
    {
        *("if", "then", "elif", "else", "fi", "for", "while", "until", "do", "done", "case", "esac", "select"),
        *("function", "in", "time", "coproc", "export", "declare", "local", "readonly", "typeset", "unset"),
    }
)
_ASSIGNED = re.compile(r"\w+\+?=")


def plain_parts(command: str) -> list[Part] | None:
    """Return the parts of a line of plain and simply quoted words, None where it takes a parser to tell."""
    parts: list[Part] = []
    words: list[str] = []
    position, end = 0, len(command.rstrip(" \t"))
    while position < end:
        token = _TOKEN.match(command, position, end)
        if token is None:
            return None
        position = token.end()
        if token["stream"] and words:
            continue
        raw = token["word"]
        if raw is None:
            if not words:
                return None
            parts.append(Part(tuple(words)))
            words = []
            continue
        if not words and (raw in _KEYWORDS or _ASSIGNED.match(raw)):
            return None
        words.append(_QUOTES.sub(lambda quoted: quoted[1] or quoted[2] or "", raw))
    if not words:
        return None
    parts.append(Part(tuple(words)))
    return parts
