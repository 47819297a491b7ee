"""Who is who in a room: read there, from its own files (passwd(5), group(5))."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class User(NamedTuple):
    """A user as programs are started as them."""

    name: str
    number: int
    group: int
    groups: list[int]
    home: str


def find(asked: str) -> User:
    """Return name, numbers and home of a user written `NAME`, `UID`, or either with `:GROUP`; raise OSError."""
    who, _, wanted = asked.partition(":")
    users = _lines("/etc/passwd", 6)
    found = next((line for line in users if line[0] == who), None)
    found = found or next((line for line in users if line[2] == who), None)
    if found is None and not who.isdecimal():
        raise FileNotFoundError(2, f"there is no user {who}")
    name, user, group, home = (found[0], found[2], found[3], found[5]) if found else (who, who, "0", "/")
    groups = _lines("/etc/group", 4)
    if wanted:
        group = next((line[2] for line in groups if line[0] == wanted), wanted)
        if not group.isdecimal():
            raise FileNotFoundError(2, f"there is no group {wanted}")
    others = [int(line[2]) for line in groups if name in line[3].split(",")]
    return User(name, int(user), int(group), [int(group), *others], home)


def _lines(path: str, fields: int) -> list[list[str]]:
    try:
        with Path(path).open(encoding="utf-8", errors="surrogateescape") as file:
            lines = [line.rstrip("\n").split(":") for line in file]
    except OSError:
        return []
    return [line for line in lines if len(line) >= fields]
