"""The patch format of coding agents: `*** Begin Patch` ... `*** End Patch`.

The format and its leniency are those of Codex CLI's `apply_patch`, so that models trained on it are at home:
sections that add, delete or update a file, updates made of hunks, each begun by `@@` with or without an anchor.
Read besides that: stacked anchors, headers in other letter case, indented patches, two patches in one text,
hunk headers of unified diffs (their line numbers are not trusted), `\\ No newline at end of file`.
"""

from __future__ import annotations

import re
from typing import Literal, TypeAlias

import msgspec

from lathe.protocol.errors import LatheError

BEGIN = "*** Begin Patch"
END = "*** End Patch"
END_OF_FILE = "*** End of File"

Op: TypeAlias = Literal[" ", "+", "-"]

_HEADER = re.compile(r"\*\*\* (add|delete|update) file:\s*(\S.*)", re.IGNORECASE)
_MOVE = re.compile(r"\*\*\* move to:\s*(\S.*)", re.IGNORECASE)
_UNIFIED = re.compile(r"@@ -\d+(?:,\d+)? \+\d+(?:,\d+)? @@.*")
_HEREDOC = re.compile(r"(?:apply_?patch\s*)?<<-?\s*(['\"]?)(\w+)\1")


class PatchError(LatheError):
    """A patch that is malformed or does not fit the files; the message is for the model, nothing was changed."""

    code = "patch"

    def __init__(self, message: str) -> None:
        # lines of files, and names of them, may hold bytes that are no UTF-8
        super().__init__(message.encode("utf-8", "replace").decode("utf-8"))


class Hunk(msgspec.Struct, frozen=True):
    """One change of a file: under `anchors` (outermost first), `lines` with their marks.

    `at_end` says that the lines are the file's last, `final_newline` whether the file is to end with a line
    break (None: as it did).
    """

    anchors: tuple[str, ...]
    lines: tuple[tuple[Op, str], ...]
    at_end: bool = False
    final_newline: bool | None = None


class AddFile(msgspec.Struct, frozen=True):
    path: str
    lines: tuple[str, ...]


class DeleteFile(msgspec.Struct, frozen=True):
    path: str


class UpdateFile(msgspec.Struct, frozen=True):
    path: str
    hunks: tuple[Hunk, ...]
    move_to: str | None = None


Section: TypeAlias = AddFile | DeleteFile | UpdateFile


class Patch(msgspec.Struct, frozen=True):
    """A parsed patch: its sections in order, at least one."""

    sections: tuple[Section, ...]


def parse_patch(text: str) -> Patch:
    """Return what `text` says; raise `PatchError` (and nothing else) that names the line at fault."""
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise PatchError("The patch has characters that are not valid Unicode.") from None
    lines, first = _body(text)
    sections = _Parser(lines, first).sections()
    if not sections:
        raise PatchError("The patch is empty: it has no '*** Add File:', '*** Delete File:' or '*** Update File:'.")
    return Patch(tuple(sections))


def _body(text: str) -> tuple[list[str], int]:
    """Return the lines between the outer markers, and the number of the first of them."""
    lines = text.removeprefix("\ufeff").split("\n")
    start, stop = 0, len(lines)
    while start < stop and not lines[start].strip():
        start += 1
    while stop > start and not lines[stop - 1].strip():
        stop -= 1
    if stop - start >= 4 and _is_wrapped(lines[start].strip(), lines[stop - 1].strip()):
        start, stop = start + 1, stop - 1
    lines = lines[:stop]
    if start == stop or lines[start].strip() != BEGIN:
        raise PatchError(f"The first line of a patch must be '{BEGIN}'.")
    if stop - start < 2 or lines[-1].strip() != END:
        raise PatchError(f"The last line of a patch must be '{END}': it was cut off, or something follows it.")
    if lines[start].endswith("\r"):  # the text came through something that writes CRLF: not part of the content
        lines = [line.removesuffix("\r") for line in lines]
    indent = lines[start][: len(lines[start]) - len(lines[start].lstrip())]
    if indent and all(line.startswith(indent) or not line.strip() for line in lines[start:]):
        lines = [line[len(indent) :] for line in lines]
    return lines[start + 1 : -1], start + 2


def _is_wrapped(first: str, last: str) -> bool:
    heredoc = _HEREDOC.fullmatch(first)
    return (heredoc is not None and last == heredoc[2]) or (first.startswith("```") and last == "```")


class _Parser:
    def __init__(self, lines: list[str], first: int) -> None:
        self.lines = lines
        self.first = first
        self.at = 0

    def error(self, message: str, at: int | None = None) -> PatchError:
        return PatchError(f"Invalid patch, line {self.first + (self.at if at is None else at)}: {message}")

    def sections(self) -> list[Section]:
        found: list[Section] = []
        while self.at < len(self.lines):
            line = self.lines[self.at].strip()
            header = _HEADER.fullmatch(line)
            if header is None:
                self.between(line)
                continue
            path = header[2]
            if "\0" in path:
                raise self.error("a path cannot have a NUL character.")
            self.at += 1
            match header[1].lower():
                case "add":
                    found.append(AddFile(path, self.added()))
                case "delete":
                    found.append(DeleteFile(path))
                case _:
                    found.append(self.update(path))
        return found

    def between(self, line: str) -> None:
        """Pass a line that stands between sections: blank, or the seam of two patches in one text."""
        following = self.lines[self.at + 1].strip() if self.at + 1 < len(self.lines) else ""
        if line == END and following == BEGIN:
            self.at += 2
        elif not line:
            self.at += 1
        else:
            raise self.error(
                f"'{line[:200]}' is no header. Valid headers: '*** Add File: path', '*** Delete File: path', "
                "'*** Update File: path'. Lines of an added file start with '+'."
            )

    def added(self) -> tuple[str, ...]:
        """Return the lines of a new file; blank lines without their `+` count where more lines follow."""
        lines: list[str] = []
        blanks = 0
        while self.at < len(self.lines):
            line = self.lines[self.at]
            if line.startswith("+"):
                lines += [""] * blanks
                blanks = 0
                lines.append(line[1:])
            elif not line.strip():
                blanks += 1
            else:
                break
            self.at += 1
        return tuple(lines)

    def update(self, path: str) -> UpdateFile:
        header = self.at - 1
        move_to = None
        move = _MOVE.fullmatch(self.lines[self.at].strip()) if self.at < len(self.lines) else None
        if move is not None:
            move_to = move[1]
            if "\0" in move_to:
                raise self.error("a path cannot have a NUL character.")
            self.at += 1
        self.skip_unified_header()
        hunks: list[Hunk] = []
        while (hunk := self.hunk()) is not None:
            hunks.append(hunk)
        if not hunks and move_to is None:
            raise self.error(f"the update of '{path}' has no hunks.", header)
        return UpdateFile(path, tuple(hunks), move_to)

    def skip_unified_header(self) -> None:
        ahead = self.lines[self.at : self.at + 3]
        if len(ahead) == 3 and all(map(str.startswith, ahead, ("--- ", "+++ ", "@@"))):
            self.at += 2

    def hunk(self) -> Hunk | None:
        """Return the next hunk of this section, None at its end."""
        while self.at < len(self.lines) and not self.lines[self.at].strip():
            self.at += 1
        if self.at < len(self.lines) and _HEADER.fullmatch(self.lines[self.at].strip()):
            return None
        begun = self.at
        anchors = self.anchors()
        lines: list[tuple[Op, str]] = []
        final_newline: bool | None = None
        at_end = False
        while self.at < len(self.lines):
            line = self.lines[self.at]
            if line.startswith(("@@", "***")):
                at_end = line.rstrip() == END_OF_FILE
                break
            if line.startswith("\\"):
                # as in unified diffs, it speaks of the line before it
                final_newline = bool(lines) and lines[-1][0] == "-"
            else:
                lines.append(self.marked(line))
            self.at += 1
        if not lines:
            if self.at == begun and not at_end:
                return None
            raise self.error("this hunk has no lines.", begun)
        if not any(op == "-" or (op == " " and text) for op, text in lines):
            # blank lines below an addition are the space before what comes next, not its context
            while lines[-1] == (" ", "") and len(lines) > 1:
                lines.pop()
        self.at += at_end
        return Hunk(anchors, tuple(lines), at_end, final_newline)

    def anchors(self) -> tuple[str, ...]:
        anchors = []
        while self.at < len(self.lines) and self.lines[self.at].startswith("@@"):
            line = self.lines[self.at].rstrip()
            anchor = "" if _UNIFIED.fullmatch(line) else line[2:].removeprefix(" ").removesuffix(" @@")
            if anchor.strip():
                anchors.append(anchor)
            self.at += 1
        return tuple(anchors)

    def marked(self, line: str) -> tuple[Op, str]:
        match line[:1]:
            case "" | "\r":
                return (" ", "")
            case "+":
                return ("+", line[1:])
            case "-":
                return ("-", line[1:])
            case " ":
                return (" ", line[1:])
            case "\t":  # a tab-indented context line that lost its mark
                return (" ", line)
            case _:
                raise self.error(
                    f"'{line[:200]}' must start with ' ' (context), '+' (added) or '-' (removed), "
                    "or be a '@@' or '***' line."
                )
