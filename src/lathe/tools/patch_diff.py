"""Unified diffs with git's headers, as `git apply` reads them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from lathe.tools.patch_text import Splice

_CONTEXT = 3
_COMPARED = 4_000_000  # pairs of lines that are searched for a smallest diff; beyond, the middle is replaced whole


class Block(NamedTuple):
    """Lines `a` to `b` of the old file became `c` to `d` of the new one (half open, from 0)."""

    a: int
    b: int
    c: int
    d: int


class Side(NamedTuple):
    """A file before or after: its name, its bytes (None: it does not exist) and its mode bits with type."""

    name: str
    data: bytes | None
    mode: int


def unified_diff(old: Side, new: Side, splices: Sequence[Splice] | None = None) -> str:
    """Return the diff of one file, "" where nothing differs; bytes that are not UTF-8 show as U+FFFD.

    `splices` are the changes where they are known, as lines that end with a line feed.
    """
    if old.data == new.data and old.name == new.name and old.data is not None:
        return ""
    head = _header(old, new)
    before, after = old.data or b"", new.data or b""
    if before == after:
        return "".join(f"{line}\n" for line in head)
    names = (
        "/dev/null" if old.data is None else _quoted("a/", old.name, tab=True),
        "/dev/null" if new.data is None else _quoted("b/", new.name, tab=True),
    )
    if b"\0" in before or b"\0" in after:
        return "".join(f"{line}\n" for line in [*head, f"Binary files {names[0]} and {names[1]} differ"])
    head += [f"--- {names[0]}", f"+++ {names[1]}"]
    was, now = _lines(before), _lines(after)
    body = b"".join(_hunks(was, now, _blocks(was, now, splices)))
    return "".join(f"{line}\n" for line in head) + body.decode("utf-8", "replace")


def _header(old: Side, new: Side) -> list[str]:
    head = [f"diff --git {_quoted('a/', old.name)} {_quoted('b/', new.name)}"]
    if old.data is None:
        head.append(f"new file mode {_git_mode(new.mode)}")
    elif new.data is None:
        head.append(f"deleted file mode {_git_mode(old.mode)}")
    elif old.name != new.name:
        head += [f"rename from {_quoted('', old.name)}", f"rename to {_quoted('', new.name)}"]
    return head


def _git_mode(mode: int) -> str:
    if mode & 0o170000 == 0o120000:
        return "120000"
    return "100755" if mode & 0o100 else "100644"


def _quoted(prefix: str, name: str, *, tab: bool = False) -> str:
    """Return `name` as git writes it: in C quotes where it has control characters, quotes or backslashes."""
    path = prefix + name
    if any(char < " " or char in '"\\\x7f' for char in path):
        escaped = "".join(
            f"\\{char}" if char in '"\\' else f"\\{ord(char):03o}" if char < " " or char == "\x7f" else char
            for char in path
        )
        path = f'"{escaped}"'
    elif tab and " " in path:
        path += "\t"  # without it, what follows the space would read as a time stamp
    return path.encode("utf-8", "replace").decode("utf-8")


def _lines(data: bytes) -> list[bytes]:
    lines = data.split(b"\n")
    last = lines.pop()
    return [line + b"\n" for line in lines] + ([last] if last else [])


def _blocks(was: Sequence[bytes], now: Sequence[bytes], splices: Sequence[Splice] | None) -> list[Block]:
    if splices is not None:
        blocks = []
        shift = 0
        for splice in splices:
            start = splice.start + shift
            blocks.append(Block(splice.start, splice.stop, start, start + len(splice.lines)))
            shift += len(splice.lines) - (splice.stop - splice.start)
        if len(was) + shift == len(now) and _only(was, now, blocks):
            return [block for block in blocks if was[block.a : block.b] != now[block.c : block.d]]
    return _compared(was, now)


def _only(was: Sequence[bytes], now: Sequence[bytes], blocks: Sequence[Block]) -> bool:
    """Return whether all that differs lies in `blocks`."""
    ends = [Block(0, 0, 0, 0), *blocks, Block(len(was), len(was), len(now), len(now))]
    return all(was[one.b : other.a] == now[one.d : other.c] for one, other in pairwise(ends))


def _compared(was: Sequence[bytes], now: Sequence[bytes]) -> list[Block]:
    shorter = min(len(was), len(now))
    head = next((i for i in range(shorter) if was[i] != now[i]), shorter)
    tail = next((i for i in range(shorter - head) if was[-1 - i] != now[-1 - i]), shorter - head)
    old, new = was[head : len(was) - tail], now[head : len(now) - tail]
    if not old or not new or len(old) * len(new) > _COMPARED:
        return [Block(head, head + len(old), head, head + len(new))]
    from difflib import SequenceMatcher

    codes = SequenceMatcher(None, old, new).get_opcodes()
    return [Block(a + head, b + head, c + head, d + head) for tag, a, b, c, d in codes if tag != "equal"]


def _hunks(was: Sequence[bytes], now: Sequence[bytes], blocks: Sequence[Block]) -> Iterable[bytes]:
    group: list[Block] = []
    for block in blocks:
        if group and block.a - group[-1].b > 2 * _CONTEXT:
            yield from _hunk(was, now, group)
            group = []
        group.append(block)
    if group:
        yield from _hunk(was, now, group)


def _hunk(was: Sequence[bytes], now: Sequence[bytes], group: Sequence[Block]) -> Iterable[bytes]:
    a, c = max(group[0].a - _CONTEXT, 0), max(group[0].c - _CONTEXT, 0)
    b, d = min(group[-1].b + _CONTEXT, len(was)), min(group[-1].d + _CONTEXT, len(now))
    yield f"@@ -{_span(a, b)} +{_span(c, d)} @@\n".encode()
    at = a
    for block in group:
        yield from (_marked(b" ", line) for line in was[at : block.a])
        yield from (_marked(b"-", line) for line in was[block.a : block.b])
        yield from (_marked(b"+", line) for line in now[block.c : block.d])
        at = block.b
    yield from (_marked(b" ", line) for line in was[at:b])


def _span(start: int, stop: int) -> str:
    return f"{start + (stop > start)},{stop - start}"


def _marked(mark: bytes, line: bytes) -> bytes:
    return mark + line if line.endswith(b"\n") else mark + line + b"\n\\ No newline at end of file\n"
