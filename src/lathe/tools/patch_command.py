"""Recognising a shell command that does nothing but apply a patch."""

from __future__ import annotations

import re
from typing import NamedTuple

_BEGIN = "*** Begin Patch"
# Patterns are strings, compiled (and kept by `re`) at the first use: few runs see a patch in a command.
_NAMES = ("apply_patch", "applypatch", "lathe apply-patch")
_NAME = rf"(?:{'|'.join(_NAMES)})"
_HEREDOC = r"<<(?P<dash>-?)[ \t]*(?P<quote>['\"]?)(?P<tag>\w+)(?P=quote)"
_REST = r"[ \t]*(?:2>&1[ \t]*)?"
_CD = r"\s*cd[ \t]+(?:--[ \t]+)?(?:'([^']*)'|\"([^\"$`\\]*)\"|([\w./+,@%:=-]+))[ \t]*&&\s*"
_HERE = rf"\s*{_NAME}[ \t]*(?:-[ \t]+)?{_HEREDOC}{_REST}\n(?P<body>.*)"
_PIPED = rf"\s*cat[ \t]*{_HEREDOC}[ \t]*\|[ \t]*{_NAME}{_REST}\n(?P<body>.*)"
_CAT = rf"\s*{_NAME}[ \t]+\"\$\([ \t]*cat[ \t]*{_HEREDOC}[ \t]*\n(?P<body>.*)\)\"{_REST}\s*"
_ARGUMENT = rf"\s*{_NAME}[ \t]+(?P<words>['\"].*['\"]){_REST}\s*"
_QUOTED = r"'([^']*)'|\"((?:[^\"\\$`]|\\.)*)\"|\\(')"


class InterceptedPatch(NamedTuple):
    """The patch that a command would apply; `directory` is where its `cd` goes first, as it is written there."""

    text: str
    directory: str | None


def intercepted_patch(command: str) -> InterceptedPatch | None:
    """Return the patch that `command` applies if that is all it does, else None.

    Read are `apply_patch` (`applypatch`, `lathe apply-patch`) with the patch in a here-document, in quotes, or
    in `"$(cat <<...)"`, after at most one `cd DIR &&`. As with Codex CLI an unquoted here-document is taken as
    it stands: a patch is never meant to be expanded.
    """
    if _BEGIN not in command or not any(name in command for name in _NAMES):
        return None
    directory = None
    at = 0
    if (cd := re.match(_CD, command)) is not None:
        directory = next(path for path in cd.groups() if path is not None)
        at = cd.end()
    text = _here_document(command, at)
    if text is None and (found := re.compile(_ARGUMENT, re.DOTALL).fullmatch(command, at)) is not None:
        text = _unquoted(found["words"])
    if text is None or not text.lstrip().startswith(_BEGIN):
        return None
    return InterceptedPatch(text, directory)


def _here_document(command: str, at: int) -> str | None:
    for form in (_HERE, _PIPED, _CAT):
        found = re.compile(form, re.DOTALL).match(command, at)
        if found is None or (form is _CAT and found.end() != len(command)):
            continue
        lines = found["body"].split("\n")
        if found["dash"]:
            lines = [line.lstrip("\t") for line in lines]
        if found["tag"] not in lines:
            return None
        end = lines.index(found["tag"])
        if any(line.strip() for line in lines[end + 1 :]):
            return None
        text = "\n".join(lines[:end])
        return text if found["quote"] else _without_escapes(text)
    return None


def _without_escapes(text: str) -> str:
    """Return what an unquoted here-document says, were it written by somebody who escaped what needs it."""
    if "\\$" in text or "\\`" in text:
        return re.sub(r"\\([$`\\])", r"\1", text)
    return text


def _unquoted(words: str) -> str | None:
    """Return the one word that `words`, quoted pieces without space between, stand for; None for anything else."""
    pieces = []
    at = 0
    quoted = re.compile(_QUOTED, re.DOTALL)
    while at < len(words):
        piece = quoted.match(words, at)
        if piece is None:
            return None
        single, double, escaped = piece.groups()
        pieces.append(single or escaped or (re.sub(r"\\([$`\"\\\n])", _unescape, double) if double else ""))
        at = piece.end()
    return "".join(pieces)


def _unescape(escape: re.Match[str]) -> str:
    return "" if escape[1] == "\n" else escape[1]
