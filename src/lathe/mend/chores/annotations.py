"""Edits that a type checker's finding calls for by itself, where there is just one sensible answer."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import msgspec

from lathe.mend.chores.checkers import Finding
from lathe.mend.chores.imports import bound_names
from lathe.mend.source import Function, SourceFile

Edit: TypeAlias = tuple[int, int, str]
Callable: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef

_TYPING = {"Any", "Callable", "ClassVar", "Dict", "Final", "FrozenSet", "Generic", "Iterable", "Iterator", "List"}
_TYPING |= {"Literal", "Mapping", "NamedTuple", "NoReturn", "Optional", "Protocol", "Sequence", "Set", "Tuple"}
_TYPING |= {"Type", "TypeVar", "TypedDict", "Union", "cast", "overload", "TYPE_CHECKING"}
_FROM_ABC = {"Callable", "Iterable", "Iterator", "Mapping", "Sequence"}
_IGNORE = re.compile(r"\s*#\s*(?:type|pyright):\s*ignore(?:\[[^\]]*\])?(?=\s*(?:#|$))")
_PLAIN = (bool, int, float, str, bytes)
_ADDERS = {"append": "list", "appendleft": "deque", "add": "set"}


class Fix(msgspec.Struct, frozen=True):
    """The edits that may clear a finding; `imports` are (module, name) pairs that they need."""

    finding: Finding
    path: str
    edits: tuple[Edit, ...]
    imports: tuple[tuple[str, str], ...] = ()


def fix_for(finding: Finding, source: SourceFile, python: tuple[int, int]) -> Fix | None:
    """Return the fix of a finding in `source`, None where a person has to decide. `python` is the oldest to run on."""
    text = finding.text
    if finding.code in ("unused-ignore", "reportUnnecessaryTypeIgnoreComment") or text.startswith(
        'Unused "type: ignore'
    ):
        return _unused_ignore(finding, source)
    missing = re.match(r'(?:Name )?"(\w+)" is not defined', text)
    if missing and missing[1] in _TYPING and missing[1] not in bound_names(source.tree):
        module = "collections.abc" if missing[1] in _FROM_ABC and python >= (3, 9) else "typing"
        return Fix(finding, source.path, (), ((module, missing[1]),))
    if '"None"' in text and re.search(r"Incompatible default for|Expression of type \"None\"", text):
        return _optional_default(finding, source, python)
    if finding.code == "no-untyped-def":
        return _signature(finding, source)
    if finding.code == "var-annotated":
        return _variable(finding, source)
    return None


def _unused_ignore(finding: Finding, source: SourceFile) -> Fix | None:
    start = source.line_start(finding.line)
    line = source.lines[finding.line - 1]
    part = re.search(r'Unused "type: ignore\[([\w, -]+)\]"', finding.text)
    match = _IGNORE.search(line)
    if match is None:
        return None
    codes = re.search(r"\[([^\]]*)\]", match[0])
    unused = {code.strip() for code in part[1].split(",")} if part else set()
    if codes and unused:
        kept = [code.strip() for code in codes[1].split(",") if code.strip() not in unused]
        if kept:
            at = start + match.start()
            edit = (at + codes.start(1), at + codes.end(1), ", ".join(kept))
            return Fix(finding, source.path, (edit,))
    edit = (start + match.start(), start + match.end(), "")
    return Fix(finding, source.path, (edit,))


def _optional_default(finding: Finding, source: SourceFile, python: tuple[int, int]) -> Fix | None:
    for node in ast.walk(source.tree):
        if isinstance(node, Function):
            for argument, default in _defaults(node):
                here = default.lineno == finding.line and source.offset(default.lineno, default.col_offset)
                at = source.line_start(finding.line) + finding.column - 1
                if here == at and argument.annotation is not None and _is_none(default):
                    return _or_none(finding, source, argument.annotation, python)
    return None


def _or_none(finding: Finding, source: SourceFile, note: ast.expr, python: tuple[int, int]) -> Fix:
    start, end = source.span(note)
    quoted = isinstance(note, ast.Constant) and isinstance(note.value, str)
    new_style = python >= (3, 10) or quoted or _has_future(source.tree)
    if new_style:
        at = end - 1 if quoted else end
        return Fix(finding, source.path, ((at, at, " | None"),))
    edits = ((start, start, "Optional["), (end, end, "]"))
    return Fix(finding, source.path, edits, (("typing", "Optional"),))


def _signature(finding: Finding, source: SourceFile) -> Fix | None:
    function = next(
        (node for node in ast.walk(source.tree) if isinstance(node, Function) and _is_at(node, finding)), None
    )
    if function is None:
        return None
    edits: list[Edit] = []
    defaults = dict(_defaults(function))
    for argument in _bare_arguments(function, source):
        kind = _kind(defaults.get(argument))
        if kind is None:
            return None
        end = source.offset(argument.end_lineno or 0, argument.end_col_offset or 0)
        after = source.text[end : source.span(defaults[argument])[0]]
        edits.append((end, end, f": {kind}"))
        if after == "=":
            edits.append((end, end + 1, f": {kind} = "))
            del edits[-2]
    if function.returns is None:
        result = _result(function)
        colon = _colon(source, function)
        if result is None or colon is None:
            return None
        edits.append((colon, colon, f" -> {result}"))
    return Fix(finding, source.path, tuple(edits)) if edits else None


def _variable(finding: Finding, source: SourceFile) -> Fix | None:
    name = re.search(r'annotation for "(\w+)"', finding.text)
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Assign) and node.lineno == finding.line and len(node.targets) == 1 and name:
            target = node.targets[0]
            if isinstance(target, ast.Name) and target.id == name[1]:
                scope = source.function(node) or source.tree
                kind = _filled_with(node.value, name[1], scope)
                end = source.span(target)[1]
                return Fix(finding, source.path, ((end, end, f": {kind}"),)) if kind else None
    return None


def _filled_with(value: ast.expr, name: str, scope: ast.AST) -> str | None:
    """Return the type of an empty collection from the literals that the scope puts into it, if they agree."""
    keys: set[str | None] = set()
    items: set[str | None] = set()
    for node in ast.walk(scope):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _is_name(node.func.value, name):
            if node.func.attr in _ADDERS and len(node.args) == 1:
                items.add(_kind(node.args[0]))
            elif node.func.attr in ("extend", "update", "insert", "setdefault"):
                return None
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Subscript) and _is_name(target.value, name):
                    keys.add(_kind(target.slice))
                    items.add(_kind(node.value))
    if len(items) != 1 or None in items or len(keys) > 1 or None in keys:
        return None
    if isinstance(value, ast.List) and not keys:
        return f"list[{items.pop()}]"
    if isinstance(value, ast.Dict) and keys:
        return f"dict[{keys.pop()}, {items.pop()}]"
    if isinstance(value, ast.Call) and _is_name(value.func, "set") and not keys:
        return f"set[{items.pop()}]"
    return None


def _result(function: Callable) -> str | None:
    """Return the type of what a function returns where that is plain to see."""
    own = list(_own_nodes(function.body))
    if any(isinstance(node, (ast.Yield, ast.YieldFrom)) for node in own):
        return None
    returns = [node.value for node in own if isinstance(node, ast.Return) and node.value is not None]
    if not returns:
        return "None"
    kinds = {_kind(value) for value in returns}
    ends = isinstance(function.body[-1], (ast.Return, ast.Raise))
    bare = any(isinstance(node, ast.Return) and node.value is None for node in own)
    return kinds.pop() if len(kinds) == 1 and ends and not bare else None


def _kind(value: ast.expr | None) -> str | None:
    """Return the type of an expression that has just one; None for any other."""
    if isinstance(value, ast.Constant):
        return next((kind.__name__ for kind in _PLAIN if type(value.value) is kind), None)
    if isinstance(value, ast.JoinedStr):
        return "str"
    if isinstance(value, ast.UnaryOp):
        if isinstance(value.op, ast.Not):
            return "bool"
        kind = _kind(value.operand)
        return kind if kind in ("int", "float") else None
    if isinstance(value, ast.Compare):
        plain = all(isinstance(op, (ast.Is, ast.IsNot, ast.In, ast.NotIn)) for op in value.ops)
        return "bool" if plain else None
    return None


def _own_nodes(body: Sequence[ast.stmt]) -> Iterator[ast.AST]:
    """Yield the nodes of a function without those of functions inside it."""
    waiting: list[ast.AST] = list(body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, (*Function, ast.Lambda, ast.ClassDef)):
            waiting += ast.iter_child_nodes(node)


def _defaults(function: Callable) -> Iterator[tuple[ast.arg, ast.expr]]:
    arguments = [*function.args.posonlyargs, *function.args.args]
    with_default = arguments[len(arguments) - len(function.args.defaults) :]
    yield from zip(with_default, function.args.defaults, strict=True)
    for argument, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True):
        if default is not None:
            yield argument, default


def _bare_arguments(function: Callable, source: SourceFile) -> list[ast.arg]:
    arguments = [*function.args.posonlyargs, *function.args.args]
    static = any(isinstance(one, ast.Name) and one.id == "staticmethod" for one in function.decorator_list)
    if isinstance(source.parents.get(function), ast.ClassDef) and not static:
        arguments = arguments[1:]
    rest = [one for one in (function.args.vararg, function.args.kwarg) if one is not None]
    return [one for one in (*arguments, *function.args.kwonlyargs, *rest) if one.annotation is None]


def _colon(source: SourceFile, function: Callable) -> int | None:
    """Return where the colon stands that ends a function's header."""
    start = source.offset(function.lineno, 0)
    depth = 0
    try:
        for token in tokenize.generate_tokens(io.StringIO(source.text[start:]).readline):
            if token.string in ("(", "[", "{"):
                depth += 1
            elif token.string in (")", "]", "}"):
                depth -= 1
            elif token.string == ":" and depth == 0:
                return source.line_start(function.lineno + token.start[0] - 1) + token.start[1]
    except (tokenize.TokenError, SyntaxError):
        pass
    return None


def _is_at(node: Callable, finding: Finding) -> bool:
    return node.lineno == finding.line


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _is_name(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _has_future(tree: ast.Module) -> bool:
    return any(
        isinstance(node, ast.ImportFrom) and node.module == "__future__" and node.names[0].name == "annotations"
        for node in tree.body
    )
