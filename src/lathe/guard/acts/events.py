"""A line of shell as the events that rules speak of: a process for each command, a file for each that is written."""

from __future__ import annotations

from collections.abc import Iterator

from lathe.guard.acts.sigma_values import PARENT, Fields
from lathe.guard.shell_run import Reading, Run
from lathe.guard.shell_words import SOME, UNKNOWN
from lathe.guard.wrappers import program_name

CONNECTIONS = ("/dev/tcp/", "/dev/udp/")
_WRITERS = frozenset({"tee", "cp", "mv", "ln", "install", "touch", "truncate", "dd", "shred", "rsync"})
_TARGETS_ALL = frozenset({"tee", "touch", "truncate", "shred"})


class Events:
    """The events of a line, made when they are asked for."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._made: dict[str, list[Fields]] = {}
        self._files: list[Fields] | None = None
        self._runs: dict[str, list[Run]] = {}
        for run in reading.runs:
            if run.words:
                self._runs.setdefault(program_name(plain(run.words[0])).lower(), []).append(run)

    def of(self, category: str, programs: frozenset[str] | None = None) -> Iterator[Fields]:
        """Yield the events of a category, those of `programs` alone where some are given (in lower case)."""
        if category == "file_event":
            if self._files is None:
                self._files = [_file(target, cwd) for target, cwd in _written(self._reading)]
            yield from self._files
            return
        for name in self._runs if programs is None else programs & self._runs.keys():
            made = self._made.get(name)
            if made is None:
                made = self._made[name] = [_process(run) for run in self._runs[name]]
            yield from made

    def text(self) -> str:
        """Return all that rules can see of the line: words as they come out, not as they are written."""
        lines: dict[str, None] = {}
        for run in self._reading.runs:
            lines |= {" ".join(run.words): None, run.cwd: None}
        for target, cwd in _written(self._reading):
            lines |= {target: None, cwd: None}
        return plain("\n".join(lines))


def started_with(line: str) -> Fields:
    """Return the event of a shell that is started with a line: rules that look for pipes see them there."""
    return _process(Run(("bash", "-c", line), ""))


def plain(word: str) -> str:
    """Return a word with an unknown part as `?`, and without one that may be empty."""
    return word.replace(UNKNOWN, "").replace(SOME, "?")


def _process(run: Run) -> Fields:
    words = [plain(word) for word in run.words]
    image = words[0] if words[0].startswith("/") else f"/usr/bin/{program_name(words[0])}"
    line, folder = " ".join(words), plain(run.cwd)
    return Fields(
        {"Image": image, "CommandLine": line, "CurrentDirectory": folder, "ParentImage": PARENT},
        {
            "Image": image.lower(),
            "CommandLine": line.lower(),
            "CurrentDirectory": folder.lower(),
            "ParentImage": PARENT,
        },
    )


def _written(reading: Reading) -> Iterator[tuple[str, str]]:
    """Yield the files that are written, each with the folder that the command runs in."""
    for one in reading.redirects:
        if one.operator != "<" or one.target.startswith(CONNECTIONS):
            yield one.target, one.cwd
    for run in reading.runs:
        if reading.broken:  # the grammar does not know `<>`, and takes its target for a word
            yield from ((word, run.cwd) for word in run.words if word.startswith(CONNECTIONS))
        yield from ((word, run.cwd) for word in _written_by(run))


def _written_by(run: Run) -> list[str]:
    name = program_name(run.words[0]) if run.words else ""
    if name not in _WRITERS:
        return []
    if name == "dd":
        return [word[3:] for word in run.words[1:] if word.startswith("of=")]
    operands = [word for word in run.words[1:] if not word.startswith("-")]
    return operands if name in _TARGETS_ALL else operands[-1:]


def _file(target: str, cwd: str) -> Fields:
    path = plain(target)
    folder = plain(cwd).rstrip("/")
    whole = path if path.startswith(("/", "~")) else f"{folder}/{path}"
    return _fields(TargetFilename=whole)


def _fields(**fields: str) -> Fields:
    return Fields(fields, {name: value.lower() for name, value in fields.items()})
