"""What an audit is made from: a trial's record, its task, what the agent did step by step, and the files it left."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from lathe.evals.environments.base import Change
from lathe.evals.record import Trial
from lathe.evals.task import Task

_COMMAND_KEYS = ("command", "cmd", "commands", "script", "keystrokes", "bash_command", "chars")
_PATH_KEYS = ("path", "file_path", "filename", "file", "target_file")
_TEXT_KEYS = ("content", "contents", "file_text", "text", "new_str", "new_string", "new_source")
_CODE_KEYS = ("code", "python")
_PATCHED = re.compile(r"^\*\*\* (?:Add|Update|Delete) File: (.+)$", re.MULTILINE)
_LONGEST = 2 * 2**20


class Step(NamedTuple):
    """What an agent did at once, and what came of it.

    `commands` are lines of shell, `code` is Python that a tool ran, `writes` are files with the text put into them,
    `asked` all arguments of the calls as text. `number` is the step's in the trajectory.
    """

    number: int
    commands: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    writes: tuple[tuple[str, str], ...] = ()
    reads: tuple[str, ...] = ()
    asked: str = ""
    output: str = ""


class Evidence(NamedTuple):
    """One trial's.

    `steps` is None where the agent left no trajectory, `changes` where nobody looked. `files` has the text of changed
    files, by their path in the environment.
    """

    trial: Trial
    task: Task
    steps: tuple[Step, ...] | None = None
    changes: tuple[Change, ...] | None = None
    files: Mapping[str, str] = {}


def load(folder: Path, trial: Trial, task: Task) -> Evidence:
    """Return what lies in a trial's folder; what is missing or torn counts as not there."""
    steps = None
    with contextlib.suppress(OSError, ValueError, RecursionError):
        steps = steps_of(json.loads((folder / (trial.trajectory or "trajectory.json")).read_bytes()))
    changes: tuple[Change, ...] | None = None
    files: dict[str, str] = {}
    try:
        told = msgspec.json.decode((folder / "changes.json").read_bytes(), type=list[dict[str, Any]])
        changes = tuple(Change(str(one["path"]), one["how"]) for one in told if "path" in one and "how" in one)
    except (OSError, msgspec.DecodeError):
        # Without a difference no file is written; a trial whose agent had ended was looked at.
        changes = () if trial.verdict == "scored" and not (folder / "changes.json").exists() else None
    for change in changes or ():
        kept = folder / "changes" / change.path.lstrip("/")
        try:
            if kept.is_file() and not kept.is_symlink() and kept.stat().st_size <= _LONGEST:
                files[change.path] = kept.read_text("utf-8")
        except (OSError, ValueError):
            continue
    return Evidence(trial, task, steps, changes, files)


def steps_of(trajectory: Any) -> tuple[Step, ...]:
    """Return the steps of a trajectory in ATIF (Harbor's RFC 0001) that did something; what is no step is passed by."""
    listed = trajectory.get("steps") if isinstance(trajectory, dict) else None
    return tuple(_steps(listed if isinstance(listed, list) else []))


def _steps(listed: list[Any]) -> Iterator[Step]:
    for at, step in enumerate(listed, 1):
        if not isinstance(step, dict) or step.get("source") != "agent":
            continue
        calls = _dicts(step.get("tool_calls"))
        observation = step.get("observation")
        results = _dicts(observation.get("results")) if isinstance(observation, dict) else []
        outputs = [_text(one.get("content")) for one in results]
        number = step.get("step_id")
        yield _step(number if isinstance(number, int) else at, [call.get("arguments") for call in calls], outputs)


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _step(number: int, calls: list[Any], outputs: list[str]) -> Step:
    commands: list[str] = []
    code: list[str] = []
    writes: list[tuple[str, str]] = []
    reads: list[str] = []
    for arguments in calls:
        given = {"input": arguments} if isinstance(arguments, str) else arguments
        if not isinstance(given, dict):
            continue
        commands += [line for key in _COMMAND_KEYS for line in _lines(given.get(key))]
        code += [given[key] for key in _CODE_KEYS if isinstance(given.get(key), str)]
        path = next((given[key] for key in _PATH_KEYS if isinstance(given.get(key), str)), None)
        text = next((given[key] for key in _TEXT_KEYS if isinstance(given.get(key), str)), None)
        if path is not None and text is not None:
            writes.append((path, text))
        elif path is not None and not set(_COMMAND_KEYS) & given.keys():
            reads.append(path)
        for key in ("patch", "input", "diff"):
            patch = given.get(key)
            if isinstance(patch, str):
                writes += _patched(patch)
    asked = "\n".join(_flat(arguments) for arguments in calls)
    return Step(number, tuple(commands), tuple(code), tuple(writes), tuple(reads), asked, "\n".join(outputs)[:_LONGEST])


def _lines(value: Any) -> list[str]:
    """Return a command that is a line, a list of words (`bash -lc LINE` among them), or a list of calls."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        return []
    if value and all(isinstance(one, str) for one in value):
        import shlex

        return [shlex.join(value)]
    return [line for one in value if isinstance(one, dict) for key in _COMMAND_KEYS for line in _lines(one.get(key))]


def _patched(patch: str) -> list[tuple[str, str]]:
    """Return the files of a patch in the form of `apply_patch`, with the lines put in."""
    marks = list(_PATCHED.finditer(patch))
    ends = [*(mark.start() for mark in marks[1:]), len(patch)][: len(marks)]
    return [
        (mark[1].strip(), "\n".join(line[1:] for line in patch[mark.end() : end].split("\n") if line[:1] == "+"))
        for mark, end in zip(marks, ends, strict=True)
    ]


def _flat(value: Any) -> str:
    """Return all texts in a value, one below the other."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return "\n".join(map(_flat, value.values()))
    return "\n".join(map(_flat, value)) if isinstance(value, list) else ""


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(
            part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)
        )
    return content if isinstance(content, str) else ""
