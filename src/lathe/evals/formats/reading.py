"""What every reader of a format needs: bounded reading, names, digests, and one broken task beside good ones.

A task folder comes from somebody else. Nothing is read through a link that leaves it, and nothing in it can do more
than make that one task unreadable.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from lathe.evals.task import Dataset, Task

TEXT_LIMIT = 16 * 2**20
ROWS_LIMIT = 2 * 2**30
MOST_SECONDS = 7 * 86_400.0
MOST_FILES = 200_000
MOST_VALUES = 100_000
Row = TypeVar("Row")

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._+=-]+")
_LICENCES = {
    "Apache License": "Apache-2.0",
    "MIT License": "MIT",
    "BSD 3-Clause": "BSD-3-Clause",
    "BSD 2-Clause": "BSD-2-Clause",
    "GNU GENERAL PUBLIC LICENSE\n Version 3": "GPL-3.0",
    "GNU GENERAL PUBLIC LICENSE\n Version 2": "GPL-2.0",
    "Permission is hereby granted, free of charge": "MIT",
}


class Unreadable(Exception):
    """One task cannot be read, or not be run here; the text is a sentence for a person."""


# --- files


def text_of(path: Path, *, within: Path, limit: int = TEXT_LIMIT) -> str:
    """Return a file's text (UTF-8, line ends as `\\n`), of at most `limit` bytes; raise `Unreadable`.

    `within` is the folder that the file, all links followed, must lie in.
    """
    data = bytes_of(path, within=within, limit=limit)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unreadable(f"{path.name} is not UTF-8 (byte {error.start}).") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def bytes_of(path: Path, *, within: Path, limit: int = TEXT_LIMIT) -> bytes:
    """Return a file's content; the rest is as for `text_of`."""
    checked(path, within=within)
    try:
        if not path.is_file():
            raise Unreadable(f"{path.name} is not there.")
        if path.stat().st_size > limit:
            raise Unreadable(f"{path.name} is larger than {limit} bytes.")
        return path.read_bytes()
    except OSError as error:
        raise Unreadable(f"{path.name} can't be read: {error.strerror or error}.") from None


def checked(path: Path, *, within: Path) -> Path:
    """Return `path` where it lies in the folder `within` with all links followed, else raise `Unreadable`."""
    try:
        inside = path.resolve().is_relative_to(within.resolve())
    except (OSError, RuntimeError, ValueError):
        inside = False
    if not inside:
        raise Unreadable(f"{path.name} leads out of {within.name}.")
    return path


def tree_of(folder: Path, *, within: Path, omit: Callable[[str], bool] | None = None) -> list[Path]:
    """Return all files and links below a folder, in order of path; raise `Unreadable`.

    A link that leaves `within`, and what is neither file, folder nor link, makes it unreadable. What `omit` says of a
    path relative to `folder` is left out.
    """
    found: list[Path] = []
    folders = [checked(folder, within=within)]
    while folders:
        here = folders.pop()
        try:
            entries = sorted(here.iterdir())
        except OSError as error:
            raise Unreadable(f"{here.name} can't be read: {error.strerror or error}.") from None
        for path in entries:
            if omit is not None and omit(path.relative_to(folder).as_posix()):
                continue
            mode = _mode(path)
            if stat.S_ISLNK(mode):
                found.append(checked(path, within=within))
            elif stat.S_ISDIR(mode):
                folders.append(path)
            elif stat.S_ISREG(mode):
                found.append(path)
            else:
                raise Unreadable(f"{path.name} is neither a file nor a folder.")
        if len(found) > MOST_FILES:
            raise Unreadable(f"{folder.name} holds more than {MOST_FILES} files.")
    return sorted(found)


def _mode(path: Path) -> int:
    try:
        return path.lstat().st_mode
    except OSError as error:
        raise Unreadable(f"{path.name} can't be read: {error.strerror or error}.") from None


def folders_holding(path: Path, *names: str, depth: int = 6) -> list[Path]:
    """Return the folders at or below `path` that hold one of some files, in order; it looks no deeper than one."""
    found: list[Path] = []
    level = [path]
    for _ in range(depth + 1):
        below: list[Path] = []
        for folder in level:
            if any((folder / name).is_file() for name in names):
                found.append(folder)
            elif not folder.is_symlink() or folder == path:
                below += _subfolders(folder)
        level = below
    return sorted(found)


def _subfolders(folder: Path) -> list[Path]:
    try:
        return [each for each in folder.iterdir() if not each.name.startswith(".") and each.is_dir()]
    except OSError:
        return []


# --- digests and names


def digest_of(settings: Any, parts: Iterable[tuple[str, Path]] = (), *, within: Path | None = None) -> str:
    """Return `sha256:` and the hash of what a task is made of; raise `Unreadable`.

    `settings` is plain data, `parts` are files and folders with the names they go by. Of a file its name, its bytes and
    whether it can be executed count; its times, owner and place do not.
    """
    outer = hashlib.sha256(json.dumps(settings, sort_keys=True, ensure_ascii=True).encode() + b"\n")
    for name, path in parts:
        for label, file in _labelled(name, path, within or path):
            outer.update(f"{_kind(file)} {_content(file)} {label}\n".encode("utf-8", "surrogateescape"))
    return f"sha256:{outer.hexdigest()}"


def _labelled(name: str, path: Path, within: Path) -> list[tuple[str, Path]]:
    if path.is_dir() and not path.is_symlink():
        return [(f"{name}/{each.relative_to(path).as_posix()}", each) for each in tree_of(path, within=within)]
    return [(name, path)]


def _kind(path: Path) -> str:
    mode = _mode(path)
    return "link" if stat.S_ISLNK(mode) else "program" if mode & stat.S_IXUSR else "file"


def _content(path: Path) -> str:
    try:
        if path.is_symlink():
            return hashlib.sha256(bytes(path.readlink())).hexdigest()
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise Unreadable(f"{path.name} can't be read: {error.strerror or error}.") from None


def named(text: str) -> str:
    """Return a task's name that is also one file name: what else stands in `text` becomes `-`; raise `Unreadable`."""
    name = _NOT_IN_NAMES.sub("-", text).strip("-.")
    if not name or len(name) > 180:
        raise Unreadable(f"{text[:60]!r} is no name for a task.")
    return name


# --- datasets


def gathered(
    name: str,
    entries: Iterable[tuple[str, Row]],
    read: Callable[[Row], Task],
    *,
    version: str = "",
    licence: str = "",
    unread: Sequence[tuple[str, str]] = (),
) -> Dataset:
    """Return the dataset of all entries that can be read; the others stand in `unread`, each with a sentence.

    Without a version of its own it goes by the digests of its tasks. A second task of one name is unread.
    """
    tasks: dict[str, Task] = {}
    failed = list(unread)
    for label, entry in entries:
        try:
            task = read(entry)
            f"{task.instruction}{task.verifier.flag}".encode()
            if task.name in tasks:
                raise Unreadable(f"A task named {task.name} is there already.")
            tasks[task.name] = task
        except Unreadable as error:
            failed.append((printable(label), str(error)))
        except OSError as error:
            failed.append((printable(label), f"It can't be read: {error.strerror or error}."))
        except (ValueError, RecursionError) as error:  # half a surrogate pair, a NUL in a path: no text, no path
            failed.append((printable(label), f"It can't be read: {printable(str(error))[:120]}."))
    ordered = tuple(tasks[each] for each in sorted(tasks))
    version = version or digest_of([task.digest for task in ordered])[:19]
    return Dataset(name=name, version=version, tasks=ordered, licence=licence, unread=tuple(sorted(failed)))


def printable(text: str) -> str:
    """Return a file's name as text that any stream takes."""
    return text.encode("utf-8", "backslashreplace").decode()


def licence_of(folder: Path) -> str:
    """Return the SPDX name of the licence that a folder's LICENSE is known by, else ""."""
    for path in sorted(folder.glob("LICEN[CS]E*")):
        try:
            head = re.sub(r"\s*\n\s+", "\n ", bytes_of(path, within=folder)[:4096].decode("utf-8", "replace"))
        except Unreadable:
            continue
        return next((spdx for words, spdx in _LICENCES.items() if words in head), "")
    return ""


# --- plain data


def parsed_json(text: str, what: str) -> Any:
    """Return what JSON says; raise `Unreadable`."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"{what} is no JSON: {str(error)[:120]}.") from None


def parsed_yaml(text: str, what: str) -> dict[str, Any]:
    """Return the mapping that a YAML file holds; raise `Unreadable`."""
    import yaml

    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise Unreadable(f"{what} is no YAML: {' '.join(str(error).split())[:120]}.") from None
    if not isinstance(value, dict):
        raise Unreadable(f"{what} holds no mapping.")
    if _written_out(value, {}) > MOST_VALUES:
        raise Unreadable(f"{what} is too large, or refers to itself.")
    return value


def _written_out(value: Any, known: dict[int, float]) -> float:
    """Return how many values there are with every alias written out; infinite where one holds itself."""
    if not isinstance(value, (dict, list)):
        return 1
    if id(value) not in known:
        known[id(value)] = math.inf
        each = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_written_out(one, known) for one in each)
    return known[id(value)]


def string(row: Mapping[str, Any], key: str, default: str | None = None) -> str:
    """Return a text of a row; raise `Unreadable` where it is something else, or not there and without a default."""
    value = row.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise Unreadable(f"{key} is {'missing' if value is None else 'not a text'}.")
    return value


def word(row: Mapping[str, Any], key: str) -> str:
    """Return a text that only describes; "" where there is none."""
    value = row.get(key)
    return value if isinstance(value, str) else ""


def words(row: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """Return the texts of a list that only describes."""
    value = row.get(key)
    return tuple(each for each in value if isinstance(each, str)) if isinstance(value, list) else ()
