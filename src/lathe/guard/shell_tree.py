"""Lines of shell as tree-sitter-bash sees them.

The grammar is good, not bash itself. So a kind of node that is not listed, text between tokens that is not white
space, and expansions that hide inside plain text all make the answer opaque or broken rather than trusted.
"""

from __future__ import annotations

import re
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

from lathe.guard.shell import Found, Part

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

_BLANK = re.compile(rb"(?:[ \t\n]|\\\n)*")
_STRUCTURE = frozenset(
    {
        *("program", "list", "pipeline", "redirected_statement", "subshell", "compound_statement"),
        *("command_substitution", "process_substitution", "if_statement", "elif_clause", "else_clause"),
        *("while_statement", "for_statement", "do_group", "case_statement", "case_item", "function_definition"),
        *("negated_command", "string", "concatenation", "array", "variable_assignments", "heredoc_redirect"),
        *("herestring_redirect", "file_redirect", "command", "command_name", "declaration_command"),
        *("unset_command", "test_command", "unary_expression", "binary_expression", "parenthesized_expression"),
        *("word", "raw_string", "ansi_c_string", "number", "simple_expansion", "expansion", "variable_name"),
        *("special_variable_name", "string_content", "comment", "heredoc_start", "heredoc_body"),
        *("heredoc_content", "heredoc_end", "file_descriptor", "test_operator", "regex", "variable_assignment"),
        *("translated_string", "extglob_pattern", "brace_expression", "arithmetic_expansion"),
        "c_style_for_statement",
    }
)
_LOOSE_TEXT = frozenset(
    {"string", "heredoc_body", "heredoc_redirect", "expansion", "translated_string", "arithmetic_expansion"}
)
_PLAIN_EXPANSION = re.compile(r"\$\{#?(?:\w+|[?#$!*@-])(?:\}|(?::?[-=+?]|%%?|##?|//?|\^\^?|,,?)[^\[]*\})", re.DOTALL)
_REDIRECTS = frozenset({"file_redirect", "herestring_redirect", "heredoc_redirect"})
_WORD_LISTS = frozenset({"command", "test_command", "declaration_command", "unset_command", "negated_command"})
_HEREDOC_WORDS = frozenset({"word", "string", "raw_string", "concatenation", "number", "simple_expansion", "expansion"})
_ONE_LINE = frozenset(
    {
        *("file_redirect", "herestring_redirect", "redirected_statement"),
        *("command", "declaration_command", "unset_command"),
    }
)
_ARITHMETIC = frozenset({"arithmetic_expansion", "c_style_for_statement", "subscript"})
_DASH = re.compile(rb"[ \t]+-[ \t]+")
_SPECIAL = re.compile(r"[\\\"'`$()<>|&; \t\n]")
_HIDDEN = re.compile(r"(?<!\\)(?:\\\\)*(?:`|\$[({])")


@cache
def _parser() -> Parser:
    import tree_sitter
    import tree_sitter_bash

    return tree_sitter.Parser(tree_sitter.Language(tree_sitter_bash.language()))


def parse(source: bytes) -> Node:
    """Return the root of the tree of a line of shell."""
    return _parser().parse(source).root_node


def read_tree(command: str, found: Found) -> None:
    """Add what `command` holds to `found`: its parts without what wrappers among them start."""
    try:
        source = command.encode()
    except UnicodeEncodeError:
        found.broken = True
        return
    root = parse(source)
    _Reader(source, found).read(root)


class _Reader:
    def __init__(self, source: bytes, found: Found) -> None:
        self.source = source
        self.found = found

    def read(self, root: Node) -> None:
        """Walk the tree in order; a stack instead of recursion, for lists nest as deep as they are long."""
        around = self.source[: root.start_byte] + self.source[root.end_byte :]
        if _BLANK.sub(b"", around) or b"``" in self.source:
            self.found.broken = True
        stack = [root]
        while stack:
            node = stack.pop()
            self._check(node)
            self._visit(node)
            if not (node.type == "heredoc_body" and is_quoted_heredoc(node)):
                stack.extend(reversed(node.children))

    def _check(self, node: Node) -> None:
        """Note what we do not know how to read."""
        kind = node.type
        if node.is_error or node.is_missing:
            self.found.broken = True
        elif node.is_named:
            self.found.opaque |= kind not in _STRUCTURE
        elif kind != self._text(node).strip():
            # The scanner sometimes lets an operator swallow the word before it.
            self.found.broken |= bool(kind.strip())
        if node.child_count and kind not in _LOOSE_TEXT:
            self._check_gaps(node)

    def _check_gaps(self, node: Node) -> None:
        children = node.children
        if children[0].start_byte != node.start_byte and self._between(node.start_byte, children[0].start_byte):
            self.found.broken = True
        for left, right in pairwise(children):
            gap = self.source[left.end_byte : right.start_byte]
            if right.type == "heredoc_redirect" and _DASH.fullmatch(gap):
                continue
            # A continued line without white space joins two words into one.
            joined = node.type in _WORD_LISTS and not gap.replace(b"\\\n", b"") and right.type not in _REDIRECTS
            if node.type == "simple_expansion" and gap:
                self.found.broken = True
            torn = node.type in _ONE_LINE and b"\n" in gap.replace(b"\\\n", b"")
            if node.type == "file_redirect" and gap == b"" and left.is_named and left.type != "file_descriptor":
                self.found.broken = True
            if torn or _BLANK.fullmatch(gap) is None or (joined and left.type not in _REDIRECTS):
                self.found.broken = True

    def _between(self, start: int, end: int) -> bool:
        return _BLANK.fullmatch(self.source[start:end]) is None

    def _visit(self, node: Node) -> None:
        match node.type:
            case "command":
                self._command(node)
            case "declaration_command" | "unset_command":
                self._declaration(node)
            case "variable_assignment":
                self._assignment(node)
            case "test_command":
                self._test(node)
            case "for_statement":
                self._loop(node)
            case "file_redirect":
                self._redirect(node)
            case "herestring_redirect":
                word = self._word(node.children[-1])
                self.found.texts += [word] if word is not None else []
            case "heredoc_body":
                self._heredoc(node)
            case "string":
                self._string_hides(node)
            case "comment":
                self.found.broken |= (
                    re.search(rb"(?:^|[ \t;&|()]|(?<!\\)\n)$", self.source[: node.start_byte][-2:]) is None
                )
            case "expansion":
                self.found.opaque |= _PLAIN_EXPANSION.fullmatch(self._text(node)) is None
            case "compound_statement":
                self.found.opaque |= node.children[0].type == "(("
            case kind if kind in _ARITHMETIC:
                # Arithmetic evaluates the values of variables, and a value such as `a[$(id)]` runs a command.
                self.found.opaque |= any(child.type != "number" for child in _named(node))
            case _:
                pass

    def _command(self, node: Node) -> None:
        words: list[str | None] = []
        assigns: list[str] = []
        stray = False
        for child in node.children:
            if child.type == "variable_assignment":
                assigns.append(self._assigned(child))
            elif child.type == "command_name":
                words.append(self._word(child.children[0]) if child.child_count else None)
            elif child.type not in _REDIRECTS:
                self.found.broken |= child.type in ("subshell", "regex", "==", "=~")
                words.append(self._word(child))
                stray = stray or words[-1] is None or self._text(child)[:1] in ("*", "?", "[")
        words += ["-"] * self._swallowed_dash(node)
        for child in _after_redirects(node):
            words.append(self._word(child))
            stray = True
        self.found.broken |= words[:1] == ["!"]
        if words and (words[0] is None or set(words[0]) & set("*?[") or words[0].startswith("~")):
            self.found.opaque = True
        self.found.parts.append(Part(tuple(words), stray, tuple(assigns)))

    def _swallowed_dash(self, command: Node) -> bool:
        """Tell whether a `-` stands before the command's here-document: the grammar loses it."""
        after = command.next_sibling
        if after is None or after.type != "heredoc_redirect":
            return False
        return _DASH.fullmatch(self.source[command.end_byte : after.start_byte]) is not None

    def _declaration(self, node: Node) -> None:
        names = [
            self._assigned(child) if child.type == "variable_assignment" else self._text(child)
            for child in _named(node)
            if child.type in ("variable_assignment", "variable_name")
        ]
        words = [node.children[0].type, *(self._declared(child) for child in _named(node))]
        self.found.parts.append(Part(tuple(words), assigns=tuple(names)))

    def _declared(self, child: Node) -> str | None:
        if child.type == "variable_assignment":
            value = self._word(child.children[-1]) if child.child_count > 2 else ""
            return None if value is None else f"{self._assigned(child)}={value}"
        return self._word(child)

    def _assignment(self, node: Node) -> None:
        parent = node.parent
        if parent is None or parent.type not in ("command", "declaration_command"):
            self.found.parts.append(Part((), assigns=(self._assigned(node),)))

    def _assigned(self, node: Node) -> str:
        name = node.children[0]
        text = self._text(name.children[0] if name.child_count else name)
        self.found.broken |= re.fullmatch(r"[A-Za-z_]\w*", text, re.ASCII) is None
        return text

    def _test(self, node: Node) -> None:
        words = [self._word(child) for child in _named(node)[:1] if child.type == "word"]
        self.found.parts.append(Part((node.children[0].type, *words)))
        operators = [child.type for child in _descendants(node) if not child.is_named or child.type == "test_operator"]
        texts = {self._text(child) for child in _descendants(node) if child.type == "test_operator"}
        if texts & {"-v", "-R", "-eq", "-ne", "-lt", "-le", "-gt", "-ge"} or "((" in operators:
            self.found.opaque = True

    def _loop(self, node: Node) -> None:
        names = [self._text(child) for child in _named(node) if child.type == "variable_name"]
        self.found.parts.append(Part((), assigns=tuple(names)))

    def _redirect(self, node: Node) -> None:
        operator = next((child.type for child in node.children if not child.is_named), "")
        targets = [child for child in _named(node) if child.type != "file_descriptor"]
        body = node.parent.children[0] if node.parent is not None else node
        # The grammar counts words after a target as targets, but to bash they are words of the command.
        if len(targets) > 1 and body.type != "command":
            self.found.broken = True
        first, start = node.children[0], node.start_byte
        before = self.source[start - 1 : start]
        if first.type == "file_descriptor":
            self.found.broken |= not self._text(first).isdigit() or before not in b" \t\n;|&("
        else:
            self.found.broken |= before.isdigit()
        for target in targets[:1]:
            word = self._word(target)
            if operator in ("<", "<&"):
                # bash opens a connection for these names.
                if word is None or word.startswith("/dev/"):
                    self.found.writes += [word] if word not in ("/dev/null", "/dev/stdin") else []
            elif not (operator == ">&" and target.type == "number") and word != "-":
                self.found.writes.append(word)
        if not targets and operator not in ("<&-", ">&-"):
            self.found.broken = True

    def _heredoc(self, node: Node) -> None:
        text = self._text(node)
        self.found.texts.append(text)
        marks = {child.type: self._text(child) for child in node.parent.children} if node.parent is not None else {}
        delimiter = re.sub(r"[\\'\"]", "", marks.get("heredoc_start", ""))
        if marks.get("heredoc_end", "").strip() != delimiter or marks.keys() & _HEREDOC_WORDS:
            self.found.broken = True
        if is_quoted_heredoc(node) or _HIDDEN.search(text) is None:
            return
        # The grammar shows `$(…)` of a here-document, but takes backticks for text.
        substitutions = [child for child in _descendants(node) if child.type == "command_substitution"]
        if "`" in text or ("$(" in text.replace("$((", "") and not substitutions):
            self.found.opaque = True
            for script in re.findall(r"`((?:[^`\\]|\\.)*)`", text, re.DOTALL):
                inner = Found()
                read_tree(re.sub(r"\\([`\\$])", r"\1", script), inner)
                self.found.parts += inner.parts

    def _string_hides(self, node: Node) -> None:
        """Note expansions that the grammar took for plain text."""
        for child in node.children:
            if child.type == "string_content" and _HIDDEN.search(self._text(child)):
                self.found.broken = True

    def _text(self, node: Node) -> str:
        return self.source[node.start_byte : node.end_byte].decode(errors="replace")

    def _word(self, node: Node) -> str | None:
        """Return a word after quote removal, None where only the shell will know it."""
        segments: list[tuple[str, bool]] = []
        nodes = node.children if node.type == "concatenation" else [node]
        for piece in nodes:
            segment = self._segment(piece)
            if segment is None:
                return None
            segments.append(segment)
        bare = "".join(text for text, quoted in segments if not quoted)
        if re.search(r"\{.*(?:,|\.\.).*\}", bare, re.DOTALL):
            return None
        return "".join(text for text, _ in segments)

    def _quoted(self, node: Node) -> str | None:
        """Return what a double-quoted string stands for; None, and its text kept, where something in it expands."""
        inside = _named(node)
        if len(inside) == 1 and inside[0].type == "command_substitution":
            printed = self._printed(inside[0])
            if printed is not None and inside[0].end_byte - inside[0].start_byte == node.end_byte - node.start_byte - 2:
                return printed
        quoted = self._text(node)[1:-1]
        if any(child.type != "string_content" for child in inside):
            self.found.texts.append(quoted)
            return None
        return re.sub(r'\\([$`"\\\n])', lambda found: found[1].replace("\n", ""), quoted)

    def _printed(self, node: Node) -> str | None:
        """Return what `$(cat <<'EOF' …)` prints, None for any other substitution."""
        nodes = [child for child in _descendants(node) if child.is_named]
        kinds = [child.type for child in nodes if child.type != "heredoc_content"]
        literal = ["command", "command_name", "heredoc_body", "heredoc_end", "heredoc_redirect", "heredoc_start"]
        if sorted(kinds) != sorted([*literal, "redirected_statement", "word"]):
            return None
        body = next(child for child in nodes if child.type == "heredoc_body")
        program = next(child for child in nodes if child.type == "word")
        if self._text(program) != "cat" or not is_quoted_heredoc(body):
            return None
        return self._text(body).rstrip("\n")

    def _segment(self, node: Node) -> tuple[str, bool] | None:
        text = self._text(node)
        match node.type:
            case "word" | "number" | "variable_name" | "test_operator" if not node.child_count:
                bare = unescape(text)
                self.found.broken |= bare is None
                return None if bare is None else (bare, False)
            case "raw_string":
                return text[1:-1], True
            case "string" | "translated_string":
                inner = node if node.type == "string" else node.children[-1]
                self.found.broken |= node.children[0].end_byte != node.children[1].start_byte and node != inner
                content = self._quoted(inner)
                return None if content is None else (content, True)
            case "ansi_c_string":
                return ansi_c(text[2:-1]), True
            case kind if not node.is_named and kind not in ("$",):
                return text, False
            case _:
                return None


def _after_redirects(command: Node) -> list[Node]:
    """Return the words of `command` that stand behind its redirections."""
    parent = command.parent
    if parent is None or parent.type != "redirected_statement" or parent.children[0] != command:
        return []
    redirects = [child for child in parent.children if child.type == "file_redirect"]
    return [
        word
        for redirect in redirects
        for word in [child for child in _named(redirect) if child.type != "file_descriptor"][1:]
    ]


def _named(node: Node) -> list[Node]:
    return [child for child in node.children if child.is_named]


def _descendants(node: Node) -> list[Node]:
    result: list[Node] = []
    stack = list(node.children)
    while stack:
        child = stack.pop()
        result.append(child)
        stack.extend(child.children)
    return result


def is_quoted_heredoc(body: Node) -> bool:
    parent = body.parent
    starts = [child for child in parent.children if child.type == "heredoc_start"] if parent is not None else []
    return any(set(start.text or b"") & set(b"'\"\\") for start in starts)


def unescape(text: str) -> str | None:
    """Return an unquoted word without its backslashes, None where it holds what no plain word can."""
    if _SPECIAL.search(text) is None:
        return text
    result: list[str] = []
    letters = iter(text)
    for letter in letters:
        if letter == "\\":
            following = next(letters, "\\")
            result.append("" if following == "\n" else following)
        elif letter in "\"'`$()<>|&; \t\n":
            return None
        else:
            result.append(letter)
    return "".join(result)


_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "e": "\x1b", "E": "\x1b", "f": "\f", "v": "\v"}
_ANSI = re.compile(
    r"\\(?:x([0-9A-Fa-f]{1,2})|u([0-9A-Fa-f]{1,4})|U([0-9A-Fa-f]{1,8})|([0-7]{1,3})|c(.)|(.))", re.DOTALL
)


def ansi_c(text: str) -> str:
    """Return what `$'text'` stands for (bash manual, "ANSI-C Quoting")."""

    def one(found: re.Match[str]) -> str:
        hexadecimal = found[1] or found[2] or found[3]
        if hexadecimal:
            code = int(hexadecimal, 16)
            return chr(code) if code < 0x110000 else "\ufffd"
        if found[4]:
            return chr(int(found[4], 8) & 0xFF)
        if found[5]:
            return chr(ord(found[5]) & 0x1F)
        return _ESCAPES.get(found[6], found[6] if found[6] in "\\'\"?" else "\\" + found[6])

    return _ANSI.sub(one, text)
