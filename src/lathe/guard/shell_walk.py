"""A line of shell on its way: its tree, walked in the order in which bash would run it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from lathe.guard.shell_output import ANYTHING, NOTHING, Output
from lathe.guard.shell_tree import ansi_c, unescape
from lathe.guard.shell_words import MOST_WORDS, SOME, UNKNOWN, braces, parameter

if TYPE_CHECKING:
    from tree_sitter import Node

_MOST_ROUNDS = 8
_BLANKS = {" ": "\ue002", "\t": "\ue003", "\n": "\ue004", "\r": "\ue005", "\v": "\ue006", "\f": "\ue007"}
_KEEP = str.maketrans(_BLANKS)
_GIVE_BACK = str.maketrans({kept: blank for blank, kept in _BLANKS.items()})
_BLANK = re.compile(r"\s")
_PLAIN = re.compile(r"[\w./:@%+,=^~-]+")
_EXPANSIONS = frozenset({"simple_expansion", "expansion", "command_substitution"})
_ESCAPED = re.compile(r'\\([$`"\\\n])')
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


class Shell(Protocol):
    """What a walk tells of what it meets."""

    functions: dict[str, tuple[bytes, Node]]

    def command(self, words: Sequence[str], state: State, given: Output, empties: Sequence[str] = ()) -> Output:
        """Note a command with its words, and return what it prints."""
        ...

    def redirect(self, operator: str, target: str, state: State) -> None:
        """Note a redirection."""
        ...


class State:
    """What changes while a line runs; a subshell gets a copy."""

    def __init__(self, variables: dict[str, str], cwd: str, elsewhere: str = "") -> None:
        self.variables = variables
        self.cwd = cwd
        self.elsewhere = elsewhere
        self.folders: list[str] = []

    def copy(self, elsewhere: str = "") -> State:
        return State(dict(self.variables), self.cwd, elsewhere or self.elsewhere)

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


class Walk:
    """One text on its way."""

    def __init__(self, shell: Shell, source: bytes) -> None:
        self.shell = shell
        self.source = source
        self._ascii = source.decode() if source.isascii() else None  # letters and bytes count alike there

    def text(self, node: Node) -> str:
        return self._between(node.start_byte, node.end_byte)

    def _between(self, start: int, end: int) -> str:
        if self._ascii is not None:
            return self._ascii[start:end]
        return self.source[start:end].decode(errors="replace")

    def statement(self, node: Node, state: State, given: Output) -> Output:
        """Run a node, and return what it prints."""
        kind = node.type
        if kind in _STATEMENTS:
            return self._each(node, state, given)
        if kind in _SCOPES:
            return self._each(node, state.copy(), given)
        way = _WAYS.get(kind)
        if way is not None:
            return way(self, node, state, given)
        if node.is_named:
            self.substitutions(node, state)
        return NOTHING

    def _list(self, node: Node, state: State, given: Output) -> Output:
        return self._all(_flat(node), state, given)

    def _variable_assignment(self, node: Node, state: State, given: Output) -> Output:
        self.assign(node, state)
        return NOTHING

    def _declaration_command(self, node: Node, state: State, given: Output) -> Output:
        for child in _named(node):
            if child.type == "variable_assignment":
                self.assign(child, state)
        return NOTHING

    def _unset_command(self, node: Node, state: State, given: Output) -> Output:
        for child in node.children:
            state.variables.pop(self.text(child), None)
        return NOTHING

    def _function_definition(self, node: Node, state: State, given: Output) -> Output:
        named = _named(node)
        self.shell.functions[self.text(named[0])] = (self.source, named[-1])
        return NOTHING

    def _each(self, node: Node, state: State, given: Output) -> Output:
        return self._all(_named(node), state, given)

    def _all(self, nodes: Sequence[Node], state: State, given: Output) -> Output:
        out = NOTHING
        for node in nodes:
            out = self.statement(node, state, given)
        return out

    def substitutions(self, node: Node, state: State) -> None:
        """Run what is substituted anywhere in a node that is no statement."""
        for child in node.children:
            if child.type in _SCOPES:
                self.statement(child, state, NOTHING)
            else:
                self.substitutions(child, state)

    def _pipeline(self, node: Node, state: State, given: Output) -> Output:
        for child in _named(node):
            given = self.statement(child, state.copy(), given)
        return given

    def _for_statement(self, node: Node, state: State, given: Output) -> Output:
        named = _named(node)
        name, values = self.text(named[0]), [word for child in named[1:-1] for word in self.words(child, state)]
        for value in values[:_MOST_ROUNDS] or [UNKNOWN]:
            state.variables[name] = value
            self.statement(named[-1], state, given)
        return NOTHING

    def _while_statement(self, node: Node, state: State, given: Output) -> Output:
        """Go through a `while` once for each name that flows in, for it is most likely `while read`."""
        names = given.words() if given != NOTHING else ()
        for name in names[:_MOST_ROUNDS] or (UNKNOWN,):
            self._each(node, state, Output(names=(name,)))
        return NOTHING

    def assign(self, node: Node, state: State) -> None:
        name, value = node.children[0], node.children[-1]
        words = self.words(value, state) if node.child_count > 2 else [""]
        text = " ".join(words)
        if node.child_count > 2 and node.children[1].type == "+=":
            text = state.variables.get(self.text(name), "") + text
        if name.type == "variable_name":
            state.variables[self.text(name)] = text

    def _redirected_statement(self, node: Node, state: State, given: Output) -> Output:
        body, redirects = node.children[0], node.children
        extra: list[str] = []
        empties: list[str] = []
        if body.type in _REDIRECTS:  # `> file` alone
            body_node = None
        else:
            body_node, redirects = body, node.children[1:]
        # Of `cat <<END > file` the grammar makes the second redirection a part of the first.
        heredocs = [one for one in redirects if one.type == "heredoc_redirect"]
        redirects = [
            *redirects,
            *(child for one in heredocs for child in one.children if child.type == "file_redirect"),
        ]
        later: list[Node] = []
        for redirect in redirects:
            if redirect.type == "file_redirect":
                targets = [child for child in _named(redirect) if child.type != "file_descriptor"]
                words = [word for child in targets for word in self.words(child, state)]
                operator = next((child.type for child in redirect.children if not child.is_named), "")
                for word in words[:1]:
                    self.shell.redirect(operator, word, state)
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
            self.shell.command([], state, NOTHING, empties)
            out = self.statement(body_node, state, given) if body_node is not None else NOTHING
        for child in later:
            out = self.statement(child, state, out if child.type == "pipeline" else NOTHING)
        return out

    def heredoc(self, redirect: Node, state: State) -> Output:
        parts = {child.type: child for child in redirect.children}
        body, start = parts.get("heredoc_body"), parts.get("heredoc_start")
        if body is None:
            return ANYTHING
        if start is not None and set(self.text(start)) & set("'\"\\"):
            return Output(self.text(body))
        return Output(self._quoted(body, state))

    def _command(
        self, node: Node, state: State, given: Output, empties: Sequence[str] = (), extra: Sequence[str] = ()
    ) -> Output:
        words: list[str] = []
        for child in node.children:
            kind = child.type
            if kind == "word" and _PLAIN.fullmatch(text := self.text(child)):  # most words, and the quickest way
                words.append(text)
            elif kind == "variable_assignment":
                self.assign(child, state)
            elif kind == "herestring_redirect":
                given = Output(" ".join(self.words(child.children[-1], state)))
            elif kind == "command_name":
                words += self.words(child.children[0], state) if child.child_count else []
            elif kind not in _REDIRECTS:
                words += self.words(child, state)
        return self.shell.command([*words, *extra], state, given, empties)

    # Words.

    def words(self, node: Node, state: State) -> list[str]:
        """Return the words that a node makes: none, one, or several."""
        kind = node.type
        if kind == "array":
            return [word for child in _named(node) for word in self.words(child, state)]
        if kind != "concatenation":
            value, quoted = self._piece(node, state)
            if quoted:
                return [value]
            found = braces(value) if "{" in value else [value]
            return [word for one in found for word in one.split()] if kind in _EXPANSIONS else found[:MOST_WORDS]
        text, bare = "", False
        for piece in node.children:
            value, quoted = self._piece(piece, state)
            bare = bare or (not quoted and piece.type in _EXPANSIONS)
            text += value.translate(_KEEP) if quoted and _BLANK.search(value) else value
        found = braces(text)
        if bare:
            found = [word for one in found for word in one.split()]
        return [word.translate(_GIVE_BACK) for word in found[:MOST_WORDS]]

    def _piece(self, node: Node, state: State) -> tuple[str, bool]:
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

    def _quoted(self, node: Node, state: State, strip: int = 0) -> str:
        """Return a double-quoted text (or a here-document), with what expands in it replaced."""
        text, at = "", node.start_byte + strip
        end = node.end_byte - strip
        for child in node.children:
            if child.type in ("simple_expansion", "expansion", "command_substitution", "arithmetic_expansion"):
                text += self._literal(at, child.start_byte) + self._piece(child, state)[0]
                at = child.end_byte
        return text + self._literal(at, end)

    def _literal(self, start: int, end: int) -> str:
        text = self._between(start, end)
        return _ESCAPED.sub(lambda found: found[1].replace("\n", ""), text) if "\\" in text else text


_WAYS: dict[str, Callable[[Walk, Node, State, Output], Output]] = {
    "list": Walk._list,
    "variable_assignment": Walk._variable_assignment,
    "declaration_command": Walk._declaration_command,
    "unset_command": Walk._unset_command,
    "function_definition": Walk._function_definition,
    "pipeline": Walk._pipeline,
    "for_statement": Walk._for_statement,
    "while_statement": Walk._while_statement,
    "redirected_statement": Walk._redirected_statement,
    "command": Walk._command,
}


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
