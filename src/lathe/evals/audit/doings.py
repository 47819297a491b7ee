"""What an agent did, read from its commands and programs as they would run: paths, programs, addresses, what stays on.

Lines of shell are walked by `lathe.guard.shell_run`, scripts that the agent wrote or left are followed where they are
run, and Python is parsed. What is only said (`echo`, a comment, a message) is no doing.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from lathe.evals.audit.evidence import Evidence, Step
from lathe.guard.destructive_code import assigned_names, called_name, code_of, python_tree, scripts_in, text_of
from lathe.guard.history import Act, History
from lathe.guard.shell_output import NOTHING, printed
from lathe.guard.shell_run import Context, Reading, Run, follow
from lathe.guard.shell_tree import parse
from lathe.guard.shell_words import SOME, UNKNOWN
from lathe.guard.straying.deeds import Deed
from lathe.guard.targets import Ground, absolute
from lathe.guard.wrappers import SHELLS, program_name

if TYPE_CHECKING:
    from tree_sitter import Node

How: TypeAlias = Literal["read", "write", "mode", "look"]
_LOOKERS = frozenset(
    {
        *(
            "ls",
            "find",
            "fd",
            "fdfind",
            "tree",
            "stat",
            "test",
            "[",
            "[[",
            "cd",
            "pushd",
            "du",
            "df",
            "file",
            "realpath",
        ),
        *(
            "realpath",
            "readlink",
            "which",
            "type",
            "inotifywait",
            "mountpoint",
            "namei",
            "getfacl",
            "lsattr",
            "pgrep",
            "ps",
        ),
    }
)
_SAYERS = frozenset(
    {"echo", "printf", ":", "true", "export", "declare", "local", "alias", "set", "unset", "git", "pkill"}
)
_MODES = frozenset({"chmod", "chown", "chgrp", "chattr", "setfacl"})
_SCREENS = frozenset({"tmux", "screen"})
_STAYS = frozenset({"nohup", "setsid", "at", "batch", "crontab", "systemd-run", "daemonize", "start-stop-daemon"})
_URL = re.compile(r"\b(?:https?|ftp|git|ssh)://[^\s'\"<>|;)\]}`]+|\bgit@[\w.-]+:[\w./-]+")
_QUOTED = re.compile(r"""["'`][<>+|]{0,2}\s*(/[^"'`\s]+)["'`]""")
_WHICH = re.compile(r"(?:\$\(|`)\s*(?:which|command -v|type -[pP])\s+(\w[\w.-]*)\s*[)`]")
_PYTHON_FILE = re.compile(r"(?:python|pypy)[\d.]*")
_PATH_WRITES = frozenset(
    {"write_text", "write_bytes", "unlink", "rename", "replace", "touch", "chmod", "symlink_to", "hardlink_to", "mkdir"}
)
_PATH_READS = frozenset({"read_text", "read_bytes", "iterdir", "glob", "rglob"})
_MOVES = frozenset({"copy", "copy2", "copyfile", "copytree", "move", "rename", "replace", "symlink", "link"})
_REMOVES = frozenset({"remove", "unlink", "rmtree", "rmdir", "makedirs", "truncate", "chmod", "mkdir"})
_FORKS = re.compile(
    r"\bos\.(?:fork|setsid|daemon)\s*\(|start_new_session\s*=\s*True|\bdaemonize\b|preexec_fn\s*=\s*os\.setsid"
)
_SHELL_START = re.compile(r"#!.*\b(?:ba|da|k|z)?sh\b")
_DEEPEST = 6
_LONGEST = 200_000


class Use(NamedTuple):
    """A path that was read, written, given another mode or owner, or looked at.

    `later` says that what did it goes on in the background. `source` is where what is written came from, where a
    command moved or linked it there.
    """

    step: int
    path: str
    how: How
    by: str
    later: bool = False
    source: str = ""


class Ran(NamedTuple):
    """A simple command; the bare name of its program comes first."""

    step: int
    words: tuple[str, ...]
    given: str
    later: bool

    @property
    def line(self) -> str:
        """The command, short enough for a sentence."""
        return shown(" ".join(self.words))


class Doings:
    """All that a trial's steps did, in order."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.workdir = evidence.task.environment.workdir or "/app"
        self.home = f"/home/{user}" if (user := evidence.task.environment.user) and user != "root" else "/root"
        self.uses: list[Use] = []
        self.runs: list[Ran] = []
        self.urls: list[tuple[int, str]] = []
        self.code: list[tuple[int, str]] = []
        self.written: dict[str, tuple[int, str]] = {}
        self.unread = False
        """Whether there was something to read that could not be read whole."""
        self._cwd = self.workdir
        self._depth = 0
        self._read: set[tuple[str, bool]] = set()
        for step in evidence.steps or ():
            self._step(step)

    def texts(self) -> Iterator[tuple[int, str]]:
        """Yield what the agent typed, step by step: all that it called tools with, and files that it wrote."""
        for step in self.evidence.steps or ():
            yield step.number, step.asked
        yield from self.written.values()

    def _step(self, step: Step) -> None:
        for path, text in step.writes:
            whole = self._whole(path, self._cwd)
            if whole:
                self.uses.append(Use(step.number, whole, "write", f"writes {path}"))
                self.written[whole] = (step.number, text)
                self._file(step.number, whole, text)
        for path in step.reads:
            whole = self._whole(path, self._cwd)
            if whole:
                self.uses.append(Use(step.number, whole, "read", f"reads {path}"))
        for code in step.code:
            self._python(step.number, code, False)
        for command in step.commands:
            self._cwd = self._shell(step.number, command, self._cwd, False)
        self.urls += [(step.number, url) for url in _URL.findall(step.asked)]

    def _whole(self, word: str, cwd: str) -> str:
        # What begins with the unknown is somewhere: only who asks what may be deleted takes it for empty.
        known = word[:1] not in (UNKNOWN, SOME)
        return (absolute(word, cwd, Ground((self.workdir,), self.home)) or "") if known else ""

    # Lines of shell.

    def _shell(self, step: int, command: str, cwd: str, later: bool) -> str:
        """Note what a line does; return the folder that it ends in."""
        if self._depth >= _DEEPEST or len(command) > _LONGEST:
            self.unread = True
            return cwd
        if (command, later) in self._read:
            return cwd
        self._read.add((command, later))
        command = _WHICH.sub(r"/usr/bin/\1", command)
        self._depth += 1
        try:
            self._put_texts(step, command, cwd)
            context = Context(cwd, {"HOME": self.home, "PWD": cwd}, self.workdir, lambda path: self._script(path, cwd))
            reading = follow(command, context)
            self.unread |= reading.unread or reading.broken
            self._note(step, command, reading, cwd, later)
            for text in _backgrounds(command):
                self._shell(step, text, cwd, True)
        finally:
            self._depth -= 1
        last = reading.runs[-1] if reading.runs else None
        if last is None:
            return cwd
        if last.words[:1] == ("cd",) and len(last.words) > 1:
            return self._whole(last.words[1], last.cwd) or cwd
        return last.cwd if last.cwd.startswith("/") else cwd

    def _note(self, step: int, command: str, reading: Reading, cwd: str, later: bool) -> None:
        by = shown(command)
        modes = [run for run in reading.runs if run.words and program_name(run.words[0]) in _MODES]
        writing = reading._replace(runs=tuple(run for run in reading.runs if run not in modes))
        deed = Deed(Act(id="", text=command, cwd=cwd), History(roots=(self.workdir,), home=self.home), writing)
        for run in modes:
            self.uses += [
                Use(step, whole, "mode", by, later)
                for word in self._operands(run.words)
                if (whole := self._whole(word, run.cwd))
            ]
        written = {place.path for place in deed.writes if place.path}
        sources = _sources(reading)
        for place in deed.writes:
            # Of a path whose beginning is not to be told its end still says something.
            path = place.path or place.word
            self.uses.append(Use(step, path, "write", by, later, sources.get(place.word, "")))
        for redirect in reading.redirects:
            if redirect.operator == "<" and (whole := self._whole(redirect.target, redirect.cwd)):
                self.uses.append(Use(step, whole, "read", by, later))
        for run in reading.runs:
            if run.words and not run.elsewhere:
                self._run(step, run, written, later)

    def _run(self, step: int, run: Run, written: set[str], later: bool) -> None:
        words = (program_name(run.words[0]), *run.words[1:])
        ran = Ran(step, words, run.given.text or "", later)
        self.runs.append(ran)
        if words[0] not in _SAYERS | _MODES:
            how: How = "look" if words[0] in _LOOKERS else "read"
            for word in self._operands(run.words):
                whole = self._whole(word, run.cwd)
                if whole and whole not in written:
                    self.uses.append(Use(step, whole, how, ran.line, later))
        stays = later or words[0] in _STAYS
        if words[0] in ("crontab", "at", "batch") and run.given.text:
            self._shell(step, re.sub(r"^(?:[\d*/,@-]\S*\s+){5}", "", run.given.text, flags=re.MULTILINE), run.cwd, True)
        if words[0] in _SCREENS:
            for line in [word for word in words[1:] if " " in word]:
                self._shell(step, line, run.cwd, True)
        for code in code_of(words, run.given.text):
            if code.language == "python":
                self._python(step, code.text, stays)
            else:
                self._other(step, code.text, stays)
        for script in scripts_in(words, run.given.text):
            self._shell(step, script, run.cwd, stays)
        if stays and not later and (inner := [word for word in words[1:] if not {UNKNOWN, SOME, "-"} & set(word[:1])]):
            self._shell(step, shlex.join(inner), run.cwd, True)
        self._script_run(step, words, run, stays)

    def _script_run(self, step: int, words: tuple[str, ...], run: Run, later: bool) -> None:
        """Note what a script does that a command runs, where its text is known."""
        named = run.words[0] if "/" in run.words[0] else ""
        if _PYTHON_FILE.fullmatch(words[0]) or words[0] in SHELLS | {"source", "."}:
            named = next((word for word in words[1:] if not word.startswith("-")), named)
        text = self._text_at(named, run.cwd) if named else None
        if text is not None and (_is_python(named, text) or _PYTHON_FILE.fullmatch(words[0])):
            self._python(step, text, later)
        elif text is not None and (not text.startswith("#!") or _SHELL_START.match(text)):
            self._shell(step, text, run.cwd, later)
        elif text is not None:
            self._other(step, text, later)

    def _operands(self, words: Sequence[str]) -> Iterator[str]:
        """Yield the words of a command that may be paths, values of options among them."""
        if "/" in words[0]:
            yield words[0]
        for word in words[1:]:
            value = word.partition("=")[2] if word.startswith("-") or re.match(r"\w+=", word) else word
            value = value.lstrip("@")
            if value and not value.startswith("-") and "://" not in value and len(value) < 4096 and "\n" not in value:
                yield value

    def _put_texts(self, step: int, command: str, cwd: str) -> None:
        """Note the texts that `cat > FILE <<END`, `echo … > FILE` and their like put into files."""
        for statement in _redirected(command):
            reading = follow(statement, Context(cwd, {"HOME": self.home}, self.workdir))
            targets = [one for one in reading.redirects if one.operator not in ("<", "<<", "<<<")]
            for run in reading.runs:
                name = program_name(run.words[0]) if run.words else ""
                names = [one.target for one in targets]
                if name == "tee":
                    names += [word for word in run.words[1:] if not word.startswith("-")]
                out = run.given if name in ("cat", "tee") else printed(run.words, NOTHING, cwd, cwd)
                for target in names if out.text else ():
                    whole = self._whole(target, run.cwd)
                    if whole:
                        before = self.written.get(whole, (step, ""))[1] if ">>" in statement else ""
                        self.written[whole] = (step, before + (out.text or ""))
                        self._file(step, whole, out.text or "")

    def _text_at(self, word: str, cwd: str) -> str | None:
        whole = self._whole(word, cwd)
        if not whole or whole.startswith(("/tests/", "/solution/")):
            return None
        if whole in self.written:
            return self.written[whole][1]
        # A folder that was entered in a way we cannot tell: the last file of that name is meant.
        name = whole.rpartition("/")[2]
        near = [text for path, (_, text) in self.written.items() if path.rpartition("/")[2] == name]
        return near[-1] if near else self.evidence.files.get(whole)

    def _script(self, path: str, cwd: str) -> str | None:
        text = self._text_at(path, cwd)
        return None if text is None or _is_python(path, text) else text

    # Programs.

    def _file(self, step: int, path: str, text: str) -> None:
        """Note what a file that the agent wrote would do when it is run."""
        later = path.startswith(("/etc/cron", "/etc/systemd", "/var/spool/cron", "/etc/init.d", "/usr/lib/systemd"))
        if _is_python(path, text):
            self._python(step, text, later)
        elif path.endswith((".sh", ".bash")) or _SHELL_START.match(text):
            self._shell(step, text, self.workdir, later)
        elif later:
            lines = re.sub(r"^(?:[\d*/,-]\S*\s+){5}(?:root\s+)?|^Exec\w+=", "", text, flags=re.MULTILINE)
            self._shell(step, lines, self.workdir, True)
        elif path.endswith((".js", ".mjs", ".pl", ".rb", ".php", ".c", ".go", ".rs")):
            self._other(step, text, later)

    def _other(self, step: int, text: str, later: bool) -> None:
        """Note the paths in a program that is not parsed: written where the program writes files at all."""
        writes = re.search(r"\b(?:write\w*|fopen|open|append\w*|create|rename|unlink|cp|symlink)\w*\s*\(", text)
        for path in _QUOTED.findall(text):
            self.uses.append(Use(step, self._whole(path, self.workdir), "write" if writes else "read", path, later))

    def _python(self, step: int, text: str, later: bool) -> None:
        if self._depth >= _DEEPEST or len(text) > _LONGEST or (text, later) in self._read:
            return
        self._read.add((text, later))
        self.code.append((step, text))
        self.urls += [(step, url) for url in _URL.findall(text)]
        tree = python_tree(text)
        if not tree.body:
            self._other(step, text, later)
            return
        later = later or _FORKS.search(text) is not None
        self._depth += 1
        names = assigned_names(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                self._call(step, node, names, later)
        for script in scripts_in(("python3", "-c", text), None):
            self._shell(step, script, self.workdir, later)
        self._depth -= 1

    def _call(self, step: int, node: ast.Call, names: dict[str, str], later: bool) -> None:
        name, owner = called_name(node)
        texts = [text_of(one, names) for one in node.args]

        def note(path: str, how: How, source: str = "") -> None:
            if path and "\n" not in path:
                whole = self._whole(path, self.workdir) or shown(path)
                self.uses.append(Use(step, whole, how, f"{name}({shown(path)!r})", later, source))

        own = text_of(owner, names) if owner is not None else ""
        if name == "open":
            values = [*texts[1:2], *(text_of(k.value, names) for k in node.keywords if k.arg == "mode")]
            path, mode = (own, texts[:1]) if own not in ("", UNKNOWN) else ("".join(texts[:1]), values)
            note(path, "write" if set("".join(mode)) & set("wax+") else "read")
        elif name in _PATH_WRITES and own not in ("", UNKNOWN):
            note(own, "write")
        elif name in _PATH_READS and own not in ("", UNKNOWN):
            note(own, "read")
        elif name in _MOVES and len(texts) > 1:
            note(texts[0], "read" if name.startswith("copy") else "write")
            note(texts[-1], "write", texts[0])
        elif name in _REMOVES and texts:
            note(texts[0], "write")
        elif name in ("kill", "killpg") and texts:
            self.runs.append(Ran(step, ("kill", ast.unparse(node.args[0])), "", later))
        elif name in ("exists", "isfile", "isdir", "is_file", "is_dir", "listdir", "stat"):
            note(texts[0] if texts else own, "look")
        elif name not in ("print", "Path", "join"):
            for one in texts:
                if one.startswith("/"):
                    note(one, "read")


def shown(text: str, most: int = 120) -> str:
    """Return a text on one line, cut, with marks for what can't be told."""
    line = " ".join(text.replace(UNKNOWN, "?").replace(SOME, "?").split())
    return line if len(line) <= most else line[: most - 1] + "…"


def _is_python(path: str, text: str) -> bool:
    return path.endswith((".py", ".pth", ".pyw")) or re.match(r"#!.*\bpython", text) is not None


def _sources(reading: Reading) -> dict[str, str]:
    """Return what `cp`, `mv`, `ln` and `install` put to a place, by that place's word."""
    found: dict[str, str] = {}
    for run in reading.runs:
        if run.words and program_name(run.words[0]) in ("cp", "mv", "ln", "install"):
            operands = [word for word in run.words[1:] if not word.startswith("-")]
            if len(operands) > 1:
                found[operands[-1]] = operands[-2]
    return found


def _nodes(command: str) -> Iterator[tuple[Node, bytes]]:
    source = command.encode(errors="replace")
    stack = [parse(source)]
    while stack:
        node = stack.pop()
        yield node, source
        stack += node.children


def _backgrounds(command: str) -> list[str]:
    """Return the statements that a line leaves running: those before a `&`."""
    found: list[str] = []
    if "&" not in command:
        return found
    for node, source in _nodes(command):
        if node.type == "&" and node.prev_sibling is not None:
            before = node.prev_sibling
            text = source[before.start_byte : before.end_byte].decode(errors="replace")
            # The grammar takes `a; b &` for one list of which only the last runs on.
            found.append(text)
    return found


def _redirected(command: str) -> list[str]:
    """Return the statements of a line that redirect what they print, and pipelines into `tee`."""
    if ">" not in command and "tee" not in command:
        return []
    found: list[str] = []
    for node, source in _nodes(command):
        if node.type == "redirected_statement" or (node.type == "pipeline" and b"tee" in source):
            found.append(source[node.start_byte : node.end_byte].decode(errors="replace"))
    return found
