"""What a line of shell would run, followed in order: variables, loops, functions, aliases, pipelines, `cd`.

`shell.analyse` says what the text shows, for rules that vouch; this walks the line as bash would, for checks that
warn: every branch is taken, loops go once for each value, and what cannot be told is marked in the words.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from lathe.guard.shell_output import ANYTHING, NOTHING, Output, found_by_fd, found_by_find, printed
from lathe.guard.shell_tree import parse
from lathe.guard.shell_walk import State, Walk
from lathe.guard.shell_words import MOST_WORDS, SOME, UNKNOWN
from lathe.guard.wrappers import SHELLS, program_name, unwrap

if TYPE_CHECKING:
    from tree_sitter import Node

_DEEPEST = 12
_MOST_RUNS = 2000
_LONGEST = 200_000
SSH_VALUED = frozenset(f"-{letter}" for letter in "bcDEeFIiJLlmopRW")
"""Options of ssh that take a value."""
_CONTAINERS = frozenset({"docker", "podman", "nerdctl"})
_VALUED_CONTAINER = frozenset(
    {
        *("-e", "--env", "-v", "--volume", "-w", "--workdir", "-u", "--user", "--name", "-p", "--publish", "--network"),
        *("--entrypoint", "--mount", "--env-file", "-h", "--hostname", "--platform", "-l", "--label", "--memory"),
    }
)


class Run(NamedTuple):
    """A simple command that the line would run, with marks of `shell_words` for what cannot be told.

    `cwd` is the folder it runs in. `given` flows into it. `empties` are files that a redirection empties first.
    `elsewhere` says on what else it runs than this machine: "ssh" or "container".
    """

    words: tuple[str, ...]
    cwd: str
    given: Output = NOTHING
    empties: tuple[str, ...] = ()
    elsewhere: str = ""


class Redirect(NamedTuple):
    """A redirection: its operator (`>>`), its target as a word with marks, the folder, and `elsewhere` as in `Run`."""

    operator: str
    target: str
    cwd: str
    elsewhere: str = ""


class Reading(NamedTuple):
    """`unread`: a text runs that nobody can know. `broken`: the line could not be parsed for sure. `runaway`: a
    function starts itself again and again."""

    runs: tuple[Run, ...]
    unread: bool = False
    broken: bool = False
    runaway: bool = False
    redirects: tuple[Redirect, ...] = ()


class Context(NamedTuple):
    """What a line is read with. `script_at` gives the text of a shell script, None where it is none to be read."""

    cwd: str
    variables: Mapping[str, str]
    top: str = "."
    script_at: Callable[[str], str | None] = lambda path: None


def follow(command: str, context: Context) -> Reading:
    """Return what `command` would run, in order; never raises."""
    shell = _Shell(context)
    state = State(dict(context.variables), context.cwd)
    try:
        shell.script(command, state, NOTHING)
    except RecursionError:
        shell.broken = True
    return Reading(tuple(shell.runs), shell.unread, shell.broken, shell.runaway, tuple(shell.redirects))


class _Shell:
    """The walk. Functions and aliases hold for all of it, wherever they were defined."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.runs: list[Run] = []
        self.redirects: list[Redirect] = []
        self.unread = self.broken = self.runaway = False
        self.functions: dict[str, tuple[bytes, Node]] = {}
        self.aliases: dict[str, str] = {}
        self.depth = 0

    def script(self, text: str, state: State, given: Output) -> Output:
        if self.depth >= _DEEPEST or len(text) > _LONGEST or "\0" in text:
            self.broken = True
            return ANYTHING
        try:
            source = text.encode()
        except UnicodeEncodeError:
            self.broken = True
            return ANYTHING
        root = parse(source)
        self.broken |= root.has_error
        self.depth += 1
        try:
            return Walk(self, source).statement(root, state, given)
        finally:
            self.depth -= 1

    # Simple commands.

    def command(self, words: Sequence[str], state: State, given: Output, empties: Sequence[str] = ()) -> Output:
        """Note a command, and follow what it starts; return what it prints."""
        if len(self.runs) >= _MOST_RUNS or self.depth >= _DEEPEST:
            self.broken = True
            return ANYTHING
        self.depth += 1
        try:
            return self._command(list(words), state, given, tuple(empties))
        finally:
            self.depth -= 1

    def redirect(self, operator: str, target: str, state: State) -> None:
        """Note a redirection, up to a number of them."""
        if len(self.redirects) < _MOST_RUNS:
            self.redirects.append(Redirect(operator, target, state.cwd, state.elsewhere))

    def _command(self, words: list[str], state: State, given: Output, empties: tuple[str, ...]) -> Output:
        name = words[0] if words else ""
        if name in self.aliases:
            line = self.aliases.pop(name)  # an alias is not expanded within itself
            out = self.script(" ".join([line, *map(shlex.quote, words[1:])]), state, given)
            self.aliases[name] = line
            return out
        if name in self.functions:
            return self._function(name, words, state, given)
        self.runs.append(Run(tuple(words), state.cwd, given, empties, state.elsewhere))
        if not words:
            return NOTHING
        builtin = _BUILTINS.get(name)
        if builtin is not None:
            builtin(self, words, state, given)
            return NOTHING
        inner = self._elsewhere(words, state, given)
        return printed(words, given, state.cwd, self.context.top) if inner is None else inner

    def _function(self, name: str, words: list[str], state: State, given: Output) -> Output:
        source, body = self.functions[name]
        if self.depth >= _DEEPEST - 1:
            self.runaway |= name in body.text.decode(errors="replace") if body.text else False
            return ANYTHING
        kept = {key: state.variables.get(key) for key in "@*123456789"}
        state.number(words[1:])
        out = Walk(self, source).statement(body, state, given)
        for key, value in kept.items():
            if value is None:
                state.variables.pop(key, None)
            else:
                state.variables[key] = value
        return out

    def _elsewhere(self, words: list[str], state: State, given: Output) -> Output | None:
        """Follow what a wrapper starts; return what that prints, None where the command is no wrapper."""
        name = program_name(words[0])
        if name == "ssh":
            return self._ssh(words, state, given)
        if name in _CONTAINERS or name == "kubectl":
            return self._container(words, state, given)
        script = self._script_file(words)
        if script is not None:
            return self.script(script, state.copy(), given)
        inner = unwrap(tuple(words))
        if inner is None:
            return None
        out = ANYTHING
        for argv in inner.argvs:
            out = self.command(self._filled(words, argv, given), state, given)
        for text in inner.scripts:
            if text is None or UNKNOWN in text or SOME in text:
                self.unread |= text is None or not text.strip(UNKNOWN + SOME + " ")
            if text is not None:
                inside = state if name == "eval" else state.copy()
                if name in SHELLS and text in words:
                    inside.number(words[words.index(text) + 2 :])
                out = self.script(text, inside, given)
        if inner.stdin:
            if given.text is None:
                self.unread = True
            else:
                out = self.script(given.text, state.copy(), NOTHING)
        return out

    def _filled(self, words: list[str], argv: Sequence[str | None], given: Output) -> list[str]:
        """Return the words of a started command, with those put in that come from its starter."""
        name = program_name(words[0])
        if name == "xargs":
            comes: Sequence[str] = given.words()
        elif name in ("find", "fd", "fdfind"):
            comes = found_by_find(words) if name == "find" else found_by_fd(words)
        elif name == "parallel" and ":::" in words:
            comes = words[words.index(":::") + 1 :]
        else:
            comes = [UNKNOWN] if given.text is None and given.names is None else given.words()
        filled: list[str] = []
        for word in argv:
            filled += [word] if word is not None else list(comes)[:MOST_WORDS] or [UNKNOWN]
        return filled

    def _script_file(self, words: list[str]) -> str | None:
        """Return the text of the script that a command runs, where it is one and can be read."""
        if program_name(words[0]) in SHELLS:
            operands = [word for word in words[1:] if not word.startswith("-")]
            if operands and not any(re.fullmatch(r"-\w*c", word) for word in words[1:]):
                return self.context.script_at(operands[0])
        if "/" in words[0] and not words[0].startswith(("/bin/", "/usr/", "/sbin/")):
            return self.context.script_at(words[0])
        return None

    def _ssh(self, words: list[str], state: State, given: Output) -> Output:
        at = 1
        while at < len(words) and words[at].startswith("-"):
            at += 2 if words[at] in SSH_VALUED else 1
        script = " ".join(words[at + 1 :])
        there = state.copy("ssh")
        there.enter("/")
        if script:
            return self.script(script, there, given)
        return self.script(given.text, there, NOTHING) if given.text else ANYTHING

    def _container(self, words: list[str], state: State, given: Output) -> Output | None:
        """Follow `docker exec NAME COMMAND` and `kubectl exec NAME -- COMMAND`."""
        there = state.copy("container")
        there.enter("/")
        if "--" in words:
            inner = words[words.index("--") + 1 :]
            return self.command(inner, there, given) if inner and "exec" in words else None
        verbs = [at for at, word in enumerate(words) if word in ("exec", "run")]
        if not verbs or program_name(words[0]) == "kubectl":
            return None
        at = verbs[0] + 1
        while at < len(words) and words[at].startswith("-"):
            at += 2 if words[at] in _VALUED_CONTAINER else 1
        inner = words[at + 1 :]
        return self.command(inner, there, given) if inner else None

    # What the shell does itself.

    def _do_cd(self, words: list[str], state: State, given: Output) -> None:
        operands = [word for word in words[1:] if word == "-" or not word.startswith("-")]
        if operands[:1] == ["-"]:
            operands = [state.variables.get("OLDPWD", UNKNOWN)]
        state.enter(operands[0] if operands else "~")

    def _do_pushd(self, words: list[str], state: State, given: Output) -> None:
        state.folders.append(state.cwd)
        self._do_cd(words, state, given)

    def _do_popd(self, words: list[str], state: State, given: Output) -> None:
        state.enter(state.folders.pop() if state.folders else UNKNOWN)

    def _do_read(self, words: list[str], state: State, given: Output) -> None:
        for name in words[1:]:
            if not name.startswith("-"):
                state.variables[name] = given.words()[0] if len(given.words()) == 1 else UNKNOWN

    def _do_alias(self, words: list[str], state: State, given: Output) -> None:
        for word in words[1:]:
            name, equals, value = word.partition("=")
            if equals:
                self.aliases[name] = value

    def _do_set(self, words: list[str], state: State, given: Output) -> None:
        if "--" in words:
            state.number(words[words.index("--") + 1 :])

    def _do_source(self, words: list[str], state: State, given: Output) -> None:
        text = self.context.script_at(words[1]) if len(words) > 1 else None
        if text is not None:
            self.script(text, state, given)


_BUILTINS: dict[str, Callable[[_Shell, list[str], State, Output], None]] = {
    "cd": _Shell._do_cd,
    "pushd": _Shell._do_pushd,
    "popd": _Shell._do_popd,
    "read": _Shell._do_read,
    "mapfile": _Shell._do_read,
    "readarray": _Shell._do_read,
    "alias": _Shell._do_alias,
    "set": _Shell._do_set,
    "source": _Shell._do_source,
    ".": _Shell._do_source,
}
