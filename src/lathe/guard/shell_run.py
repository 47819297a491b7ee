"""What a line of shell would run, followed in order: variables, loops, functions, aliases, pipelines, `cd`.

`shell.analyse` says what the text shows, for rules that vouch; this walks the line as bash would, for checks that
warn: every branch is taken, loops go once for each value, and what cannot be told is marked in the words.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from lathe.guard.shell_output import ANYTHING, NOTHING, Output, found_by_fd, found_by_find, printed
from lathe.guard.shell_tree import ansi_c, parse, unescape
from lathe.guard.shell_words import MOST_WORDS, SOME, UNKNOWN, braces, parameter
from lathe.guard.wrappers import SHELLS, program_name, unwrap

if TYPE_CHECKING:
    from tree_sitter import Node

_DEEPEST = 12
_MOST_RUNS = 2000
_BLANK = re.compile(r"\s")
_KEPT_BLANK = "\ue002"
_MOST_ROUNDS = 8
_LONGEST = 200_000
_STATEMENTS = frozenset(
    {
        *("program", "list", "compound_statement", "do_group", "if_statement", "elif_clause", "else_clause"),
        *("case_statement", "case_item", "negated_command", "c_style_for_statement"),
        *("heredoc_redirect", "variable_assignments", "ERROR"),
    }
)
_SCOPES = frozenset({"subshell", "command_substitution", "process_substitution"})
_REDIRECTS = frozenset({"file_redirect", "herestring_redirect", "heredoc_redirect"})
_EMPTYING = frozenset({">", ">|", "&>"})
_REMOTE = {
    "ssh": frozenset({"-b", "-c", "-D", "-E", "-e", "-F", "-I", "-i", "-J", "-L", "-l", "-m", "-o", "-p", "-R", "-W"}),
}
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


class Reading(NamedTuple):
    """`unread`: a text runs that nobody can know. `broken`: the line could not be parsed for sure. `runaway`: a
    function starts itself again and again."""

    runs: tuple[Run, ...]
    unread: bool = False
    broken: bool = False
    runaway: bool = False


class Context(NamedTuple):
    """What a line is read with. `script_at` gives the text of a shell script, None where it is none to be read."""

    cwd: str
    variables: Mapping[str, str]
    top: str = "."
    script_at: Callable[[str], str | None] = lambda path: None


def follow(command: str, context: Context) -> Reading:
    """Return what `command` would run, in order; never raises."""
    shell = _Shell(context)
    state = _State(dict(context.variables), context.cwd)
    try:
        shell.script(command, state, NOTHING)
    except RecursionError:
        shell.broken = True
    return Reading(tuple(shell.runs), shell.unread, shell.broken, shell.runaway)


class _State:
    """What changes while a line runs; a subshell gets a copy."""

    def __init__(self, variables: dict[str, str], cwd: str, elsewhere: str = "") -> None:
        self.variables = variables
        self.cwd = cwd
        self.elsewhere = elsewhere
        self.folders: list[str] = []

    def copy(self, elsewhere: str = "") -> _State:
        return _State(dict(self.variables), self.cwd, elsewhere or self.elsewhere)

    def number(self, words: Sequence[str]) -> None:
        """Set the positional parameters."""
        self.variables.update({str(at): "" for at in range(len(words) + 1, 10)})
        self.variables.update({str(at): word for at, word in enumerate(words[:9], 1)})
        self.variables["@"] = self.variables["*"] = " ".join(words)

    def enter(self, folder: str) -> None:
        home = self.variables.get("HOME", UNKNOWN)
        self.variables["OLDPWD"] = self.cwd
        if folder == "~" or folder.startswith("~/"):
            folder = home + folder[1:]
        self.cwd = folder if folder[:1] in ("/", UNKNOWN, SOME) else os.path.normpath(f"{self.cwd}/{folder}")
        self.variables["PWD"] = self.cwd


class _Shell:
    """The walk. Functions and aliases hold for all of it, wherever they were defined."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.runs: list[Run] = []
        self.unread = self.broken = self.runaway = False
        self.functions: dict[str, tuple[bytes, Node]] = {}
        self.aliases: dict[str, str] = {}
        self.depth = 0

    def script(self, text: str, state: _State, given: Output) -> Output:
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
            return _Walk(self, source).statement(root, state, given)
        finally:
            self.depth -= 1

    # Simple commands.

    def command(self, words: Sequence[str], state: _State, given: Output, empties: Sequence[str] = ()) -> Output:
        """Note a command, and follow what it starts; return what it prints."""
        if len(self.runs) >= _MOST_RUNS or self.depth >= _DEEPEST:
            self.broken = True
            return ANYTHING
        self.depth += 1
        try:
            return self._command(list(words), state, given, tuple(empties))
        finally:
            self.depth -= 1

    def _command(self, words: list[str], state: _State, given: Output, empties: tuple[str, ...]) -> Output:
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
        builtin = getattr(self, f"_do_{name.replace('.', 'source') if name == '.' else name}", None)
        if builtin is not None:
            builtin(words, state, given)
            return NOTHING
        inner = self._elsewhere(words, state, given)
        return printed(words, given, state.cwd, self.context.top) if inner is None else inner

    def _function(self, name: str, words: list[str], state: _State, given: Output) -> Output:
        source, body = self.functions[name]
        if self.depth >= _DEEPEST - 1:
            self.runaway |= name in body.text.decode(errors="replace") if body.text else False
            return ANYTHING
        kept = {key: state.variables.get(key) for key in "@*123456789"}
        state.number(words[1:])
        out = _Walk(self, source).statement(body, state, given)
        for key, value in kept.items():
            if value is None:
                state.variables.pop(key, None)
            else:
                state.variables[key] = value
        return out

    def _elsewhere(self, words: list[str], state: _State, given: Output) -> Output | None:
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
        name, operands = program_name(words[0]), [word for word in words[1:] if not word.startswith("-")]
        if name in SHELLS and operands and not any(re.fullmatch(r"-\w*c", word) for word in words[1:]):
            return self.context.script_at(operands[0])
        if "/" in words[0] and not words[0].startswith(("/bin/", "/usr/", "/sbin/")):
            return self.context.script_at(words[0])
        return None

    def _ssh(self, words: list[str], state: _State, given: Output) -> Output:
        at = 1
        while at < len(words) and words[at].startswith("-"):
            at += 2 if words[at] in _REMOTE["ssh"] else 1
        script = " ".join(words[at + 1 :])
        there = state.copy("ssh")
        there.enter("/")
        if script:
            return self.script(script, there, given)
        return self.script(given.text, there, NOTHING) if given.text else ANYTHING

    def _container(self, words: list[str], state: _State, given: Output) -> Output | None:
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

    def _do_cd(self, words: list[str], state: _State, given: Output) -> None:
        operands = [word for word in words[1:] if word == "-" or not word.startswith("-")]
        if operands[:1] == ["-"]:
            operands = [state.variables.get("OLDPWD", UNKNOWN)]
        state.enter(operands[0] if operands else "~")

    def _do_pushd(self, words: list[str], state: _State, given: Output) -> None:
        state.folders.append(state.cwd)
        self._do_cd(words, state, given)

    def _do_popd(self, words: list[str], state: _State, given: Output) -> None:
        state.enter(state.folders.pop() if state.folders else UNKNOWN)

    def _do_read(self, words: list[str], state: _State, given: Output) -> None:
        for name in words[1:]:
            if not name.startswith("-"):
                state.variables[name] = given.words()[0] if len(given.words()) == 1 else UNKNOWN

    _do_mapfile = _do_readarray = _do_read

    def _do_alias(self, words: list[str], state: _State, given: Output) -> None:
        for word in words[1:]:
            name, equals, value = word.partition("=")
            if equals:
                self.aliases[name] = value

    def _do_set(self, words: list[str], state: _State, given: Output) -> None:
        if "--" in words:
            state.number(words[words.index("--") + 1 :])

    def _do_source(self, words: list[str], state: _State, given: Output) -> None:
        text = self.context.script_at(words[1]) if len(words) > 1 else None
        if text is not None:
            self.script(text, state, given)


class _Walk:
    """One text on its way."""

    def __init__(self, shell: _Shell, source: bytes) -> None:
        self.shell = shell
        self.source = source

    def text(self, node: Node) -> str:
        return self.source[node.start_byte : node.end_byte].decode(errors="replace")

    def statement(self, node: Node, state: _State, given: Output) -> Output:
        """Run a node, and return what it prints."""
        kind = node.type
        if kind in _STATEMENTS:
            return self._each(node, state, given)
        if kind in _SCOPES:
            return self._each(node, state.copy(), given)
        way = getattr(self, f"_{kind}", None)
        if way is not None:
            out: Output = way(node, state, given)
            return out
        if node.is_named:
            self.substitutions(node, state)
        return NOTHING

    def _list(self, node: Node, state: _State, given: Output) -> Output:
        return self._all(_flat(node), state, given)

    def _variable_assignment(self, node: Node, state: _State, given: Output) -> Output:
        self.assign(node, state)
        return NOTHING

    def _declaration_command(self, node: Node, state: _State, given: Output) -> Output:
        for child in _named(node):
            if child.type == "variable_assignment":
                self.assign(child, state)
        return NOTHING

    def _unset_command(self, node: Node, state: _State, given: Output) -> Output:
        for child in node.children:
            state.variables.pop(self.text(child), None)
        return NOTHING

    def _function_definition(self, node: Node, state: _State, given: Output) -> Output:
        named = _named(node)
        self.shell.functions[self.text(named[0])] = (self.source, named[-1])
        return NOTHING

    def _each(self, node: Node, state: _State, given: Output) -> Output:
        return self._all(_named(node), state, given)

    def _all(self, nodes: Sequence[Node], state: _State, given: Output) -> Output:
        out = NOTHING
        for node in nodes:
            out = self.statement(node, state, given)
        return out

    def substitutions(self, node: Node, state: _State) -> None:
        """Run what is substituted anywhere in a node that is no statement."""
        for child in node.children:
            if child.type in _SCOPES:
                self.statement(child, state, NOTHING)
            else:
                self.substitutions(child, state)

    def _pipeline(self, node: Node, state: _State, given: Output) -> Output:
        for child in _named(node):
            given = self.statement(child, state.copy(), given)
        return given

    def _for_statement(self, node: Node, state: _State, given: Output) -> Output:
        named = _named(node)
        name, values = self.text(named[0]), [word for child in named[1:-1] for word in self.words(child, state)]
        for value in values[:_MOST_ROUNDS] or [UNKNOWN]:
            state.variables[name] = value
            self.statement(named[-1], state, given)
        return NOTHING

    def _while_statement(self, node: Node, state: _State, given: Output) -> Output:
        """Go through a `while` once for each name that flows in, for it is most likely `while read`."""
        names = given.words() if given != NOTHING else ()
        for name in names[:_MOST_ROUNDS] or (UNKNOWN,):
            self._each(node, state, Output(names=(name,)))
        return NOTHING

    def assign(self, node: Node, state: _State) -> None:
        name, value = node.children[0], node.children[-1]
        words = self.words(value, state) if node.child_count > 2 else [""]
        text = " ".join(words)
        if node.child_count > 2 and node.children[1].type == "+=":
            text = state.variables.get(self.text(name), "") + text
        if name.type == "variable_name":
            state.variables[self.text(name)] = text

    def _redirected_statement(self, node: Node, state: _State, given: Output) -> Output:
        body, redirects = node.children[0], node.children
        extra: list[str] = []
        empties: list[str] = []
        if body.type in _REDIRECTS:  # `> file` alone
            body_node = None
        else:
            body_node, redirects = body, node.children[1:]
        later: list[Node] = []
        for redirect in redirects:
            if redirect.type == "file_redirect":
                targets = [child for child in _named(redirect) if child.type != "file_descriptor"]
                words = [word for child in targets for word in self.words(child, state)]
                operator = next((child.type for child in redirect.children if not child.is_named), "")
                if operator in _EMPTYING:
                    empties += words[:1]
                elif operator == "<":
                    given = ANYTHING
                extra += words[1:]
            elif redirect.type == "herestring_redirect":
                given = Output(" ".join(self.words(redirect.children[-1], state)))
            elif redirect.type == "heredoc_redirect":
                given = self.heredoc(redirect, state)
                later += [child for child in _named(redirect) if child.type in ("pipeline", "list", "command")]
        if body_node is not None and body_node.type == "command":
            out = self._command(body_node, state, given, empties, extra)
        else:
            self.shell.runs.append(Run((), state.cwd, NOTHING, tuple(empties), state.elsewhere))
            out = self.statement(body_node, state, given) if body_node is not None else NOTHING
        for child in later:
            out = self.statement(child, state, out if child.type == "pipeline" else NOTHING)
        return out

    def heredoc(self, redirect: Node, state: _State) -> Output:
        parts = {child.type: child for child in redirect.children}
        body, start = parts.get("heredoc_body"), parts.get("heredoc_start")
        if body is None:
            return ANYTHING
        if start is not None and set(self.text(start)) & set("'\"\\"):
            return Output(self.text(body))
        return Output(self._quoted(body, state))

    def _command(
        self, node: Node, state: _State, given: Output, empties: Sequence[str] = (), extra: Sequence[str] = ()
    ) -> Output:
        words: list[str] = []
        for child in node.children:
            if child.type == "variable_assignment":
                self.assign(child, state)
            elif child.type == "herestring_redirect":
                given = Output(" ".join(self.words(child.children[-1], state)))
            elif child.type == "command_name":
                words += self.words(child.children[0], state) if child.child_count else []
            elif child.type not in _REDIRECTS:
                words += self.words(child, state)
        return self.shell.command([*words, *extra], state, given, empties)

    # Words.

    def words(self, node: Node, state: _State) -> list[str]:
        """Return the words that a node makes: none, one, or several."""
        if node.type == "array":
            return [word for child in _named(node) for word in self.words(child, state)]
        pieces = node.children if node.type == "concatenation" else [node]
        text, bare = "", False
        for piece in pieces:
            value, quoted = self._piece(piece, state)
            if not quoted and piece.type in ("simple_expansion", "expansion", "command_substitution"):
                bare = True
            text += _BLANK.sub(_KEPT_BLANK, value) if quoted else value
        if node.type not in ("string", "raw_string", "ansi_c_string"):
            found = braces(text)
            if bare:
                found = [word for one in found for word in one.split()]
            return [word.replace(_KEPT_BLANK, " ") for word in found[:MOST_WORDS]]
        return [text.replace(_KEPT_BLANK, " ")]

    def _piece(self, node: Node, state: _State) -> tuple[str, bool]:
        text = self.text(node)
        match node.type:
            case "raw_string":
                return text[1:-1], True
            case "ansi_c_string":
                return ansi_c(text[2:-1]), True
            case "string" | "translated_string":
                return self._quoted(node, state, strip=1), True
            case "simple_expansion" | "expansion":
                self.substitutions(node, state)
                return parameter(text, state.variables), False
            case "command_substitution":
                out = self.statement(node, state, NOTHING)
                return " ".join(out.words()) if out.text is None else out.text.rstrip("\n"), False
            case "process_substitution":
                self.statement(node, state, NOTHING)
                return SOME, True
            case "arithmetic_expansion":
                self.substitutions(node, state)
                return SOME, True
            case _:
                bare = unescape(text)
                return (text if bare is None else bare), False

    def _quoted(self, node: Node, state: _State, strip: int = 0) -> str:
        """Return a double-quoted text (or a here-document), with what expands in it replaced."""
        text, at = "", node.start_byte + strip
        end = node.end_byte - strip
        for child in node.children:
            if child.type in ("simple_expansion", "expansion", "command_substitution", "arithmetic_expansion"):
                text += self._literal(at, child.start_byte) + self._piece(child, state)[0]
                at = child.end_byte
        return text + self._literal(at, end)

    def _literal(self, start: int, end: int) -> str:
        text = self.source[start:end].decode(errors="replace")
        return re.sub(r'\\([$`"\\\n])', lambda found: found[1].replace("\n", ""), text)


def _named(node: Node) -> list[Node]:
    return [child for child in node.children if child.is_named and child.type != "comment"]


def _flat(node: Node) -> list[Node]:
    """Return the commands of a list, which nests as deep as it is long."""
    found: list[Node] = []
    while node.type == "list":
        first, *rest = _named(node)
        found[:0] = rest
        node = first
    return [node, *found]
