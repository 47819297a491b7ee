"""What a trial left in its folder, read for the page: each part up to a limit, and what was cut is said.

An agent wrote most of it, so links are not followed, nothing but plain files is opened, and characters that turn the
direction of text around are shown by their number.
"""

from __future__ import annotations

import os
import re
import stat
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from lathe.evals.atif import Step, Trajectory, TrajectoryError, read, seconds_of
from lathe.evals.atif.format import Content, ContentPart
from lathe.evals.record import Trial

_BIDI = re.compile("[\u202a-\u202e\u2066-\u2069]")
_PICTURE = re.compile(r"data:image/(?:png|jpeg|gif|webp);base64,[A-Za-z0-9+/=]+\Z")
_MADE = "There is no recording: this is made from the steps, each at its time."
_QUIET_S = 0.02
_HOW = {"changed": 0, "removed": 1, "added": 2}
_READ_MOST = 16 * 2**20


class Limits(NamedTuple):
    """How much of each part is kept, in characters: of one text, the diff, the terminal, and a file of the verifier.

    `steps` is a number; of more than that the first and the last are kept.
    """

    name: str
    text: int
    steps: int
    diff: int
    terminal: int
    verifier: int


FULL = Limits("full", 20_000, 1_000, 300_000, 1_000_000, 100_000)
LEAN = Limits("lean", 1_500, 200, 20_000, 20_000, 5_000)
BARE = Limits("bare", 500, 60, 4_000, 0, 2_000)


class Evidence:
    """Reads one trial's folder."""

    def __init__(self, folder: Path, trial: Trial) -> None:
        self.folder = folder
        self.trial = trial
        self._trajectory = self._read_trajectory()

    def _read_trajectory(self) -> Trajectory | None:
        data = self._bytes(self.trial.trajectory or "trajectory.json", _READ_MOST)
        if data is None:
            return None
        try:
            return read(data[0])
        except TrajectoryError:
            return None

    def collect(self, limits: Limits) -> dict[str, Any]:
        """Return all that the page shows of the trial, ready for JSON; `cut` says what was left out."""
        cut: list[str] = []
        found: dict[str, Any] = {
            "instruction": self._instruction(limits),
            "steps": self._steps(limits, cut),
            "diff": self._diff(limits, cut),
            "changes": self._changes(limits, cut),
            "terminal": self._terminal(limits, cut),
            "verifier": self._verifier(limits, cut),
            "tests": self._tests(),
            "log": self._log(limits),
        }
        found["cut"] = cut
        return found

    def _bytes(self, name: str, most: int) -> tuple[bytes, bool] | None:
        """Return the first `most` bytes of a file, and whether there are more; None where there is no such file."""
        path = self.folder / name
        try:
            if not path.resolve().is_relative_to(self.folder.resolve()):
                return None
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except (OSError, ValueError):
            return None
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return None
            with os.fdopen(os.dup(fd), "rb") as file:
                data = file.read(most + 1)
        except OSError:
            return None
        finally:
            os.close(fd)
        return data[:most], len(data) > most

    def _text(self, name: str, most: int) -> str | None:
        data = self._bytes(name, _READ_MOST)
        return None if data is None else _cut(data[0].decode("utf-8", "replace"), most)

    def _instruction(self, limits: Limits) -> str:
        told = self._text("instruction.md", limits.text)
        if told is not None or self._trajectory is None:
            return told or ""
        asked = [step for step in self._trajectory.steps if step.source == "user"]
        return _cut(_plain(asked[-1].message), limits.text) if asked else ""

    def _steps(self, limits: Limits, cut: list[str]) -> list[dict[str, Any]]:
        told = self._trajectory.steps if self._trajectory is not None else ()
        steps = list(zip(told, seconds_of(told, self.trial.times.agent), strict=True))
        if len(steps) > limits.steps:
            half = limits.steps // 2
            cut.append(f"{len(steps) - 2 * half} of {len(steps)} steps are left out, after step {half}.")
            steps = steps[:half] + steps[-half:]
        return [_step(step, at, limits) for step, at in steps]

    def _diff(self, limits: Limits, cut: list[str]) -> str:
        diff = self._bytes("diff.patch", _READ_MOST)
        if diff is None:
            return ""
        text = diff[0].decode("utf-8", "replace")
        if len(text) > limits.diff:
            cut.append(f"The diff ends after {limits.diff} of {len(text)} characters.")
        return _shown(text[: limits.diff])

    def _changes(self, limits: Limits, cut: list[str]) -> list[dict[str, Any]]:
        """Return what differs from the image, with the text of small files that were kept."""
        data = self._bytes("changes.json", _READ_MOST)
        try:
            told = msgspec.json.decode(data[0]) if data else []
        except (msgspec.DecodeError, UnicodeError):
            return []
        changes = [one for one in told if isinstance(one, dict)] if isinstance(told, list) else []
        if len(changes) > limits.steps:
            cut.append(f"{len(changes) - limits.steps} of {len(changes)} changed paths are left out.")
        left, shown = limits.diff, []
        changes.sort(key=lambda one: _HOW.get(str(one.get("how")), len(_HOW)))
        for one in changes[: limits.steps]:
            row: dict[str, Any] = {"path": _shown(str(one.get("path", ""))), "how": str(one.get("how", ""))}
            kept = self._bytes(one["kept"], min(left, limits.text)) if isinstance(one.get("kept"), str) else None
            if kept is not None and b"\0" not in kept[0]:
                row |= {"text": _shown(kept[0].decode("utf-8", "replace")), "more": kept[1]}
                left -= len(kept[0])
            shown.append(row)
        return shown

    def _terminal(self, limits: Limits, cut: list[str]) -> dict[str, Any] | None:
        data = self._bytes("terminal.jsonl", _READ_MOST)
        recording = _recording(data[0]) if data is not None else _recording(b"")
        if not recording["events"]:
            recording = self._replay()
        if not recording["events"]:
            return None
        if not limits.terminal:
            cut.append("The terminal's recording is left out.")
            return None
        kept: list[tuple[float, str]] = []
        left = limits.terminal
        for at, text in recording["events"]:
            kept.append((at, text[:left]))
            left -= len(text)
            if left < 0:
                cut.append(f"The terminal's recording ends after {limits.terminal} characters.")
                break
        return {**recording, "events": kept}

    def _replay(self) -> dict[str, Any]:
        """Return the commands of the trajectory and what they printed, as a recording."""
        from lathe.evals.agents.recording import replay_of

        if self._trajectory is None:
            return _recording(b"")
        return _recording(replay_of(self._trajectory, self.trial.times.agent).encode("utf-8", "replace")) | {
            "title": _MADE
        }

    def _verifier(self, limits: Limits, cut: list[str]) -> list[dict[str, str]]:
        shown = []
        folder = self.folder / "verifier"
        names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() and not folder.is_symlink() else []
        for name in sorted(names, key=lambda name: (name != "output.txt", name))[:12]:
            text = self._text(f"verifier/{name}", limits.verifier)
            if text is not None and "\0" not in text:
                shown.append({"name": _shown(name), "text": text})
        if len(names) > 12:
            cut.append(f"{len(names) - 12} files of the verifier are left out.")
        return shown

    def _tests(self) -> list[dict[str, str]]:
        """Return the single tests, where the verifier wrote a report in the Common Test Report Format."""
        data = self._bytes("verifier/ctrf.json", 2**20)
        try:
            tests = msgspec.json.decode(data[0])["results"]["tests"] if data else []
            return [
                {name: _cut(str(one.get(name) or ""), 2_000) for name in ("name", "status", "message")}
                for one in tests[:500]
            ]
        except (msgspec.DecodeError, UnicodeError, KeyError, TypeError, AttributeError):
            return []

    def _log(self, limits: Limits) -> str:
        logs = (self._text(name, limits.verifier) for name in ("agent.log", "agent/messages.log"))
        return next(filter(None, logs), "")


def _step(step: Step, at: float | None, limits: Limits) -> dict[str, Any]:
    shown: dict[str, Any] = {"n": step.step_id, "by": step.source, "text": _cut(_plain(step.message), limits.text)}
    more = {
        "at": round(at, 2) if at is not None else None,
        "model": step.model_name,
        "thoughts": _cut(step.reasoning_content or "", limits.text),
        "pictures": _pictures(step.message),
        "usage": _usage(step),
        "note": _note(step.extra),
        "calls": [
            {"id": call.tool_call_id, "name": call.function_name, "asked": _asked(call.arguments, limits)}
            for call in step.tool_calls or ()
        ],
        "results": [
            {
                "of": one.source_call_id,
                "text": _cut(_plain(one.content), limits.text),
                "pictures": _pictures(one.content),
                "diff": _cut(str(diff), limits.text) if (diff := (one.extra or {}).get("diff")) else None,
                "note": _result_note(one.extra or {}),
            }
            for one in (step.observation.results if step.observation else ())
        ],
    }
    return shown | {name: value for name, value in more.items() if value}


def _usage(step: Step) -> list[Any] | None:
    """Return prompt, cached and written tokens and the cost of a step."""
    if step.metrics is None:
        return None
    one = step.metrics
    return [one.prompt_tokens, one.cached_tokens, one.completion_tokens, one.cost_usd]


def _asked(arguments: dict[str, Any], limits: Limits) -> str:
    command = _command(arguments)
    if command and len(arguments) == 1:
        return _cut(f"$ {command}", limits.text)
    if len(arguments) == 1 and isinstance(arguments.get("input"), str):
        return _cut(arguments["input"], limits.text)
    lines = [f"{name}: {value if isinstance(value, str) else _json(value)}" for name, value in arguments.items()]
    return _cut("\n".join(lines), limits.text)


def _command(arguments: dict[str, Any]) -> str:
    for name in ("cmd", "command", "keystrokes"):
        value = arguments.get(name)
        if isinstance(value, str) and value:
            return value
        if isinstance(value, list) and value:
            return " ".join(map(str, value))
    return ""


def _note(extra: dict[str, Any] | None) -> str:
    pairs = [(name, value) for name, value in (extra or {}).items() if value not in (None, "", [], {})]
    return _cut(" · ".join(f"{name} {value if isinstance(value, str) else _json(value)}" for name, value in pairs), 600)


def _result_note(extra: dict[str, Any]) -> str:
    """Return what is known of a result in a few words: that it went well goes without saying."""
    words = []
    if extra.get("status") not in (None, "completed"):
        words.append(str(extra["status"]))
    if isinstance(extra.get("exit_code"), int):
        words.append(f"exit {extra['exit_code']}")
    if isinstance(extra.get("wall_ms"), (int, float)):
        words.append(f"{extra['wall_ms'] / 1000:.1f} s")
    rest = _note({k: v for k, v in extra.items() if k not in ("diff", "status", "exit_code", "wall_ms")})
    return " · ".join(filter(None, [*words, rest]))


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _plain(content: Content | None) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(_part(part) for part in content)


def _part(part: ContentPart) -> str:
    if part.source is None:
        return part.text or ""
    return "" if _PICTURE.match(part.source.path) else f"[{part.type}: {part.source.path[:200]}]"


def _pictures(content: Content | None) -> list[str]:
    """Return the images that stand in the content itself; those in other files are only named."""
    if not isinstance(content, tuple):
        return []
    paths = [part.source.path for part in content if part.source is not None]
    return [path for path in paths if len(path) < 400_000 and _PICTURE.match(path)]


def _recording(data: bytes) -> dict[str, Any]:
    """Return an asciicast v2 recording: what its lines printed, those that follow at once put together."""
    width, height, title = 80, 24, ""
    events: list[tuple[float, str]] = []
    for line in data.splitlines():
        try:
            one = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            continue
        match one:
            case {"version": _}:
                width, height = _between(one.get("width"), 80, 20, 400), _between(one.get("height"), 24, 5, 200)
                title = _cut(str(one.get("title") or ""), 300)
            case [float() | int() as at, "o", str() as text]:
                events.append((round(float(at), 3), text))
            case _:
                continue
    return {"width": width, "height": height, "title": title, "events": _joined(events)}


def _joined(events: list[tuple[float, str]]) -> list[tuple[float, str]]:
    """Return events in order of time, those within a moment of the one before it as one."""
    events = sorted(events, key=lambda event: event[0])
    groups: list[tuple[float, list[str]]] = [(at, [text]) for at, text in events[:1]]
    for (before, _), (at, text) in pairwise(events):
        if at - before < _QUIET_S:
            groups[-1][1].append(text)
        else:
            groups.append((at, [text]))
    return [(at, "".join(texts)) for at, texts in groups]


def _between(value: Any, otherwise: int, low: int, high: int) -> int:
    return min(max(value, low), high) if isinstance(value, int) else otherwise


def _cut(text: str, most: int) -> str:
    """Return a text, its middle left out where it is longer than `most` characters."""
    if len(text) <= most:
        return _shown(text)
    head = most * 2 // 3
    tail = most - head
    return _shown(f"{text[:head]}\n[… {len(text) - most} characters left out …]\n{text[-tail:]}")


def _shown(text: str) -> str:
    return _BIDI.sub(lambda found: f"\u27e6U+{ord(found[0]):04X}\u27e7", text)
