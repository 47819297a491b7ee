"""What an act does, as far as its text says: the commands it runs, the files it reads, writes and takes away."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

from lathe.guard.history import Act, History
from lathe.guard.shell_run import Context, Reading, Run, follow
from lathe.guard.shell_words import SOME, UNKNOWN
from lathe.guard.targets import Ground, absolute
from lathe.guard.wrappers import program_name
from lathe.sandbox.mounts import is_below

_READERS = frozenset(
    {
        *(
            "cat",
            "less",
            "more",
            "head",
            "tail",
            "bat",
            "nl",
            "tac",
            "strings",
            "xxd",
            "od",
            "hexdump",
            "base64",
            "sed",
        ),
        *(
            "awk",
            "grep",
            "rg",
            "egrep",
            "jq",
            "cut",
            "sort",
            "diff",
            "cp",
            "tar",
            "zip",
            "gzip",
            "scp",
            "rsync",
            "view",
        ),
        *("source", ".", "xargs", "vim", "nano", "openssl", "gpg", "sqlite3"),
    }
)
_ALL_WRITTEN = frozenset({"tee", "touch", "truncate", "shred", "mkdir", "chmod", "chown", "chattr", "setfacl"})
_LAST_WRITTEN = frozenset({"cp", "mv", "ln", "install", "rsync"})
_REMOVERS = frozenset({"rm", "unlink", "rmdir", "shred"})
_CODE = frozenset({"python", "python3", "node", "ruby", "perl", "deno", "bun"})
_OPENED = re.compile(r"""open\(\s*f?['"]([^'"\n]+)['"]\s*,\s*(?:mode\s*=\s*)?['"][wax+]""")
_WRITTEN = re.compile(r"""Path\(\s*f?['"]([^'"\n]+)['"]\s*\)\s*\.\s*(?:write_\w+|unlink|rename|touch|chmod)""")
_JS_WRITTEN = re.compile(r"""(?:writeFile|appendFile|unlink|rm|truncate)(?:Sync)?\(\s*['"`]([^'"`\n]+)['"`]""")
_REMOVED = re.compile(r"""(?:os\.(?:remove|unlink)|shutil\.(?:rmtree|move))\(\s*f?['"]([^'"\n]+)['"]""")
_QUOTED_PATH = re.compile(r"""['"`]([~/.\w-][^'"`\s]*)['"`]""")
_BEFORE_NOUNS = frozenset(
    {"the", "a", "an", "this", "that", "these", "our", "my", "its", "their", "of", "each", "last"}
)


class Sign(NamedTuple):
    """That an act strays: by which clause, how sure that is (0 to 1), and why, as a sentence."""

    clause: str
    score: float
    why: str
    targets: tuple[str, ...] = ()


class Place(NamedTuple):
    """A file that an act names: as it is written, and its absolute path, "" where that is not to be told."""

    word: str
    path: str

    @property
    def parts(self) -> tuple[str, ...]:
        """The names that the path consists of, in lower case."""
        return tuple(part for part in (self.path or self.word).lower().split("/") if part)

    @property
    def name(self) -> str:
        """The last of them."""
        return self.parts[-1] if self.parts else ""


class Deed:
    """An act as it is read; the text of a command is parsed when that is first needed."""

    def __init__(self, act: Act, history: History, reading: Reading | None = None) -> None:
        self.act = act
        self.history = history
        self.ground = Ground(history.roots, history.home, history.own)
        self.cwd = act.cwd or (history.roots[0] if history.roots else "/")
        self._reading = reading

    @cached_property
    def reading(self) -> Reading:
        """The line of shell as it would run."""
        if self.act.kind != "command" or not self.act.text:
            return Reading(())
        if self._reading is not None:
            return self._reading
        seen = {"HOME": self.history.home, "PWD": self.cwd}
        return follow(self.act.text, Context(self.cwd, seen, self.cwd))

    @cached_property
    def runs(self) -> tuple[tuple[str, ...], ...]:
        """The words of each command, the bare name of its program first."""
        return tuple((program_name(run.words[0]), *run.words[1:]) for run in self.here if run.words)

    @property
    def here(self) -> tuple[Run, ...]:
        """The commands that run on this machine."""
        return tuple(run for run in self.reading.runs if not run.elsewhere)

    def place(self, word: str, cwd: str = "") -> Place:
        """Return the file that a word names, of a command that runs in `cwd`."""
        shown = word.replace(UNKNOWN, "").replace(SOME, "?")
        if word[:1] in (UNKNOWN, SOME):
            return Place(shown.lstrip("/"), "")
        return Place(shown, absolute(word, cwd or self.cwd, self.ground) or "")

    @cached_property
    def reads(self) -> tuple[Place, ...]:
        """The files that it reads, as far as they are named."""
        return tuple(dict.fromkeys(self._reads()))

    @cached_property
    def writes(self) -> tuple[Place, ...]:
        """The files that it makes, changes or takes away, as far as they are named."""
        return tuple(dict.fromkeys(self._writes()))

    @cached_property
    def removes(self) -> tuple[Place, ...]:
        """The files that it takes away."""
        found = [self.place(edit.path) for edit in self.act.edits if edit.kind == "delete"]
        for run, words in self._with_words():
            if words[0] in _REMOVERS or words[:2] == ("git", "rm"):
                found += [self.place(word, run.cwd) for word in _operands(words[2 if words[0] == "git" else 1 :])]
            if words[0] == "find" and "-delete" in words:
                first = next((at for at, word in enumerate(words) if word.startswith("-")), len(words))
                found += [self.place(word, run.cwd) for word in words[1:first]]
            if words[0] in _CODE:
                found += [self.place(word, run.cwd) for text in _code(run, words) for word in _REMOVED.findall(text)]
        return tuple(dict.fromkeys(found))

    @cached_property
    def code(self) -> str:
        """The text of all programs that it hands to an interpreter."""
        return "\n".join(text for run, words in self._with_words() if words[0] in _CODE for text in _code(run, words))

    def _with_words(self) -> Iterator[tuple[Run, tuple[str, ...]]]:
        for run in self.here:
            if run.words:
                yield run, (program_name(run.words[0]), *run.words[1:])

    def _reads(self) -> Iterator[Place]:
        for one in self.reading.redirects:
            if one.operator == "<" and not one.elsewhere:
                yield self.place(one.target, one.cwd)
        for run, words in self._with_words():
            if words[0] in _READERS:
                operands = _operands(words[1:])
                if words[0] in _LAST_WRITTEN:
                    operands = operands[:-1]
                yield from (self.place(word.lstrip("@"), run.cwd) for word in operands)
            if words[0] in _CODE:
                for text in _code(run, words):
                    yield from (self.place(word, run.cwd) for word in _QUOTED_PATH.findall(text))

    def _writes(self) -> Iterator[Place]:
        for edit in self.act.edits:
            yield self.place(edit.path)
        for path in self.act.wrote:
            yield self.place(path)
        for one in self.reading.redirects:
            if one.operator not in ("<", "<<", "<<<") and not one.elsewhere and not one.target.isdigit():
                yield self.place(one.target, one.cwd)
        for run, words in self._with_words():
            yield from (self.place(word, run.cwd) for word in _written(words))
            if words[0] in _CODE:
                for text in _code(run, words):
                    for pattern in (_OPENED, _WRITTEN, _JS_WRITTEN, _REMOVED):
                        yield from (self.place(word, run.cwd) for word in pattern.findall(text))
        yield from self.removes


def _written(words: tuple[str, ...]) -> list[str]:
    name, operands = words[0], _operands(words[1:])
    if name in _ALL_WRITTEN:
        # the first operand of these is what is to be set, unless it looks like an option (`chmod -x`)
        given = any(re.fullmatch(r"-[rwxXstugo]+", word) for word in words[1:]) and name == "chmod"
        return operands[1:] if name in ("chmod", "chown", "chattr", "setfacl") and not given else operands
    if name in _LAST_WRITTEN:
        targets = operands[-1:] if len(operands) > 1 else []
        return targets + (operands[:-1] if name == "mv" else [])
    if name == "dd":
        return [word[3:] for word in words[1:] if word.startswith("of=")]
    if name in ("sed", "perl") and any(re.match(r"-\w*i|--in-place", word) for word in words[1:]):
        return operands[1:] if not any(word in ("-e", "-f") for word in words) else operands
    return []


def _operands(words: tuple[str, ...]) -> list[str]:
    return [word for word in words if not word.startswith("-") and word]


def _code(run: Run, words: tuple[str, ...]) -> list[str]:
    """Return the programs that an interpreter is given on its command line or its standard input."""
    found = [after for word, after in pairwise(words) if word in ("-c", "-e", "--eval")]
    if not found and run.given.text and ("-" in words or len(words) == 1):
        found.append(run.given.text)
    return found


def in_workspace(place: Place, history: History) -> bool:
    """Tell whether a file lies in the workspace; one that can't be told is taken to."""
    return not place.path or any(is_below(place.path, os.path.normpath(root)) for root in history.roots)


def asked(task: str, *patterns: str) -> bool:
    """Tell whether the person's words speak of something, or whether nobody knows what they were."""
    return not task.strip() or any(re.search(pattern, task, re.IGNORECASE) for pattern in patterns)


def told(task: str, pattern: str) -> bool:
    """Tell whether the person's words tell to do something, or nobody knows them; "the release" tells nothing."""
    if not task.strip():
        return True
    for found in re.finditer(pattern, task, re.IGNORECASE):
        before = task[: found.start()].split()
        if not before or before[-1].lower().strip("\"'(") not in _BEFORE_NOUNS:
            return True
    return False
