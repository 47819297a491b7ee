"""The head of a SKILL.md: a small part of YAML, read without a YAML library.

Read are the top-level keys of a mapping and their scalars: plain (also over several lines), single and double
quoted, literal (`|`) and folded (`>`) blocks (YAML 1.2.2, chapters 7 and 8). Nested mappings and lists are passed
over. One thing is taken more loosely than YAML does: a plain value may hold ": ", as many skills in use have it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_KEY = re.compile(r"""(?P<quote>["']?)(?P<key>[A-Za-z_][\w.-]*)(?P=quote)[ \t]*:(?:[ \t]+(?P<value>.*))?$""")
_BLOCK = re.compile(r"(?P<style>[|>])(?P<how>[1-9+-]{0,2})[ \t]*(?:#.*)?$")
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL)
_ESCAPED = {
    "0": "\0",
    "a": "\a",
    "b": "\b",
    "t": "\t",
    "\t": "\t",
    "n": "\n",
    "v": "\v",
    "f": "\f",
    "r": "\r",
    "e": "\x1b",
    " ": " ",
    '"': '"',
    "/": "/",
    "\\": "\\",
    "N": "\x85",
    "_": "\xa0",
    "L": "\u2028",
    "P": "\u2029",
}


class FrontMatterError(ValueError):
    """The head can't be read; the message is a clause that says why."""


class FrontMatter(NamedTuple):
    """`fields` are the scalars by key, `body` the text after the head."""

    fields: dict[str, str]
    body: str


def parse_front_matter(text: str) -> FrontMatter:
    """Return the head and the body of `text`; raise `FrontMatterError` and nothing else."""
    lines = text.removeprefix("\ufeff").split("\n")
    lines = [line.rstrip("\r") for line in lines]
    if lines[0].rstrip() != "---":
        raise FrontMatterError("it does not begin with a line of three hyphens")
    end = next((at for at in range(1, len(lines)) if lines[at].rstrip() in ("---", "...")), None)
    if end is None:
        raise FrontMatterError("its front matter has no end")
    return FrontMatter(_mapping(lines[1:end]), "\n".join(lines[end + 1 :]).strip("\n"))


def _mapping(lines: list[str]) -> dict[str, str]:
    fields: dict[str, str] = {}
    keys: set[str] = set()
    at = 0
    while at < len(lines):
        line = lines[at]
        if not line.strip() or line.lstrip().startswith("#"):
            at += 1
            continue
        found = _KEY.match(line)
        if found is None:
            raise FrontMatterError(f"line {at + 2} of it is no `key: value`")
        key = found["key"]
        if key in keys:
            raise FrontMatterError(f"it has `{key}` twice")
        keys.add(key)
        end = _end_of_value(lines, at + 1)
        value = _scalar((found["value"] or "").strip(), lines[at + 1 : end], key)
        if value is not None:
            fields[key] = value
        at = end
    return fields


def _end_of_value(lines: list[str], at: int) -> int:
    """Return where the value that begins before `at` ends: at the next line that is not indented."""
    while at < len(lines) and (not lines[at].strip() or lines[at][0] in " \t" or lines[at].startswith("- ")):
        at += 1
    return at


def _scalar(first: str, rest: list[str], key: str) -> str | None:
    """Return the scalar of a key; None for a mapping, a list or nothing."""
    if block := _BLOCK.match(first):
        return _block(block["style"], block["how"], rest)
    if first[:1] in ("'", '"'):
        return _quoted(first, rest, key)
    if first.startswith("#"):
        first = ""
    more = [line for line in rest if not line.lstrip().startswith("#")]
    if first[:1] in ("[", "{", "&", "*", "!") or (not first and _is_nested(more)):
        return None
    return _folded([_without_comment(line) for line in (first, *more)]) or None


def _is_nested(lines: list[str]) -> bool:
    first = next((line.strip() for line in lines if line.strip()), "")
    return first.startswith(("- ", "[", "{")) or first == "-" or _KEY.match(first) is not None


def _without_comment(line: str) -> str:
    return re.split(r"(?:^|[ \t])#", line, maxsplit=1)[0].strip()


def _folded(lines: list[str]) -> str:
    """Join lines as YAML folds them: a line break is a space, an empty line is a line break."""
    text = ""
    empty = 0
    for line in (line.strip() for line in lines):
        if not line:
            empty += 1
            continue
        if text:
            text += "\n" * empty if empty else " "
        text += line
        empty = 0
    return text


def _quoted(first: str, rest: list[str], key: str) -> str:
    quote = first[0]
    text = "\n".join([first[1:], *(line.strip() for line in rest)])
    pattern = r"(?:[^']|'')*'" if quote == "'" else r'(?:[^"\\]|\\.)*"'
    found = re.match(pattern, text, re.DOTALL)
    if found is None:
        raise FrontMatterError(f"the quotation of `{key}` has no end")
    after = text[found.end() :].strip()
    if after and not after.startswith("#"):
        raise FrontMatterError(f"there is text after the quotation of `{key}`")
    inner = found.group()[:-1]
    if quote == "'":
        return _folded_inside(inner.replace("''", "'"))
    return _ESCAPE.sub(lambda escape: _unescaped(escape, key), _folded_inside(inner.replace("\\\n", "")))


def _folded_inside(text: str) -> str:
    return re.sub(r"[ \t]*\n((?:[ \t]*\n)*)[ \t]*", lambda breaks: "\n" * breaks[1].count("\n") or " ", text)


def _unescaped(escape: re.Match[str], key: str) -> str:
    number = escape[1] or escape[2] or escape[3]
    if number is not None:
        code = int(number, 16)
        if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
            raise FrontMatterError(f"`{key}` has an escape that is no character")
        return chr(code)
    if escape[4] not in _ESCAPED:
        raise FrontMatterError(f"`{key}` has the unknown escape \\{escape[4]}")
    return _ESCAPED[escape[4]]


def _block(style: str, how: str, lines: list[str]) -> str:
    digits = [letter for letter in how if letter.isdigit()]
    full = [line for line in lines if line.strip()]
    indent = int(digits[0]) if digits else len(full[0]) - len(full[0].lstrip(" \t")) if full else 0
    cut = [line[indent:] if line.strip() else "" for line in lines]
    trailing = len(cut) - len("\n".join(cut).rstrip("\n").split("\n")) if full else len(cut)
    kept = cut[: len(cut) - trailing]
    text = "\n".join(kept) if style == "|" else _folded_block(kept)
    if "-" in how or not text:
        return text
    return text + "\n" * (1 + trailing if "+" in how else 1)


def _folded_block(lines: list[str]) -> str:
    """Fold a `>` block: lines that are indented further stay lines of their own."""
    text = ""
    empty = 0
    before = ""
    for line in lines:
        if not line:
            empty += 1
            continue
        if text or empty:
            deeper = line[0] in " \t" or before[:1] in (" ", "\t")
            breaks = empty + 1 if deeper or not text else empty
            text += "\n" * (breaks if text else empty) or " "
        text += line
        before, empty = line, 0
    return text
