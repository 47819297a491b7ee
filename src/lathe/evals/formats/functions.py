"""Function-repair sets of one's own: a folder a task, with the faulty tree, and beside it the files that mend it.

    SET/set.json                 {"name", "version", "licence", "how"}
    SET/tasks/NAME/task.json     {"sources", "tests", "path", "failing", "seconds", "cluster"}
    SET/tasks/NAME/program/...   what the agent gets, tests included
    SET/tasks/NAME/correct/...   the files that mend it, by the same paths

`benchmarks/repair_set.py` writes one with bugs seeded into libraries. The fields are those of `Repair`; all
but the first may be left out.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from lathe.evals.formats.made import Maker
from lathe.evals.formats.reading import MOST_SECONDS, Unreadable, gathered, parsed_json, string, text_of
from lathe.evals.formats.repair import TESTS_S, Repair, files_in, repair_task
from lathe.evals.task import Dataset, Task

ABOUT = "set.json"
KNOWN = {"sources", "tests", "path", "failing", "seconds", "cluster"}


def read_dataset(path: Path, *, made: Maker | None = None) -> Dataset:
    """Return the tasks of a set; raise `Unreadable` where there is none."""
    made = made or Maker()
    about = parsed_json(text_of(path / ABOUT, within=path), ABOUT)
    if not isinstance(about, dict):
        raise Unreadable(f"{ABOUT} is no object.")
    name = string(about, "name")
    try:
        folders = sorted(each for each in (path / "tasks").iterdir() if each.is_dir())
    except OSError:
        raise Unreadable(f"{path} has no folder tasks.") from None

    def read(folder: Path) -> Task:
        return repair_task(_repair(folder), name, made)

    entries = [(each.name, each) for each in folders]
    return gathered(name, entries, read, version=string(about, "version", ""), licence=string(about, "licence", ""))


def _repair(folder: Path) -> Repair:
    row = parsed_json(text_of(folder / "task.json", within=folder), "task.json")
    if not isinstance(row, dict) or row.keys() - KNOWN:
        raise Unreadable(f"task.json is no object of {', '.join(sorted(KNOWN))}.")
    sources = _paths(row, "sources")
    program, correct = (files_in(folder / name, within=folder) for name in ("program", "correct"))
    if not sources or not correct:
        raise Unreadable("It names no sources, or has no file that mends it.")
    if any(not _below(there, sources) for there, _ in correct):
        raise Unreadable("A file of correct/ is not among the sources that may be changed.")
    return Repair(
        name=folder.name,
        program=program,
        correct=correct,
        sources=sources,
        tests=_paths(row, "tests"),
        path=_paths(row, "path"),
        failing=_words(row, "failing"),
        seconds=_seconds(row),
        cluster=string(row, "cluster", ""),
        source=folder,
    )


def _below(there: str, sources: tuple[str, ...]) -> bool:
    return any(PurePosixPath(there).is_relative_to(each) for each in sources)


def _words(row: dict[str, Any], key: str) -> tuple[str, ...]:
    value = row.get(key, [])
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise Unreadable(f"{key} is no list of texts.")
    return tuple(value)


def _paths(row: dict[str, Any], key: str) -> tuple[str, ...]:
    for each in (values := _words(row, key)):
        path = PurePosixPath(each)
        if path.is_absolute() or ".." in path.parts or each.startswith("-") or not path.parts:
            raise Unreadable(f"{key} has {each[:60]!r}, which is no path in the program.")
    return values


def _seconds(row: dict[str, Any]) -> float:
    value = row.get("seconds", TESTS_S)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= MOST_SECONDS:
        raise Unreadable("seconds is no time.")
    return float(value)
