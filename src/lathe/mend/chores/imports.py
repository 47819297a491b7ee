"""The imports of a file: what its names stand for, adding one, and dropping those that nothing uses any more."""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Iterator, Mapping

from lathe.mend.source import SourceFile

ImportNode = ast.Import | ast.ImportFrom


def meanings(tree: ast.Module) -> dict[str, str]:
    """Return what each imported name stands for, dotted; a name with a second meaning anywhere in the file is out."""
    found: dict[str, str] = {}
    out: set[str] = set()
    for node in ast.walk(tree):
        for name, meaning in _bound(node):
            if not meaning or found.get(name, meaning) != meaning:
                out.add(name)
            found[name] = meaning
    return {name: meaning for name, meaning in found.items() if name not in out}


def bound_names(tree: ast.Module) -> set[str]:
    """Return every name that the file binds, anywhere."""
    return {name for node in ast.walk(tree) for name, _ in _bound(node)}


def dotted(node: ast.expr, names: dict[str, str]) -> str:
    """Return what an expression stands for, as `module.name`; "" for what is no imported name or part of one."""
    if isinstance(node, ast.Name):
        return names.get(node.id, "")
    if isinstance(node, ast.Attribute):
        before = dotted(node.value, names)
        return f"{before}.{node.attr}" if before else ""
    return ""


def add_import(text: str, module: str, symbol: str = "") -> str:
    """Return `text` with `import MODULE` or `from MODULE import SYMBOL`, where it has not got that."""
    source = SourceFile("", text)
    top = [node for node in source.tree.body if isinstance(node, ImportNode)]
    for node in top:
        same = isinstance(node, ast.ImportFrom) and node.module == module and not node.level
        names = [alias.name for alias in node.names if alias.asname is None]
        if symbol and same and names != ["*"]:
            if symbol in names:
                return text
            end = source.offset(node.names[-1].end_lineno or 0, node.names[-1].end_col_offset or 0)
            return f"{text[:end]}, {symbol}{text[end:]}"
        if not symbol and isinstance(node, ast.Import) and module in names:
            return text
    line = f"from {module} import {symbol}" if symbol else f"import {module}"
    at, below = _place(source, top, module, plain=not symbol)
    newline = "\r\n" if "\r\n" in text else "\n"
    before = "" if not at or text[:at].endswith(("\n", "\r")) else newline
    return f"{text[:at]}{before}{line}{newline}{newline if below else ''}{text[at:]}"


def drop_unused(text: str, names: Collection[str]) -> str:
    """Return `text` without the imports of those `names` that nothing in the file mentions."""
    if not names:
        return text
    source = SourceFile("", text)
    used = {node.id for node in ast.walk(source.tree) if isinstance(node, ast.Name)}
    used |= {part for node in _texts(source.tree) for part in node.replace("[", " ").replace(".", " ").split()}
    return _without(source, lambda name, _: name in names and name not in used)


def drop_imports(text: str, meant: Mapping[str, str]) -> str:
    """Return `text` without the imports that give one of these names this meaning (`module.name`), used or not."""
    return _without(SourceFile("", text), lambda name, meaning: bool(meaning) and meant.get(name) == meaning)


def _without(source: SourceFile, is_gone: Callable[[str, str], bool]) -> str:
    text = source.text
    cuts: list[tuple[int, int, str]] = []
    for node in ast.walk(source.tree):
        if isinstance(node, ImportNode):
            bound = list(_bound(node))
            gone = [alias for alias, one in zip(node.names, bound, strict=True) if is_gone(*one)]
            if len(gone) == len(node.names):
                cuts.append(_whole(source, node))
            else:
                cuts += [_one(source, node, alias) for alias in gone]
    for start, end, instead in sorted(cuts, reverse=True):
        text = text[:start] + instead + text[end:]
    return text


def _bound(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield the names that one node binds, each with what it stands for, "" for anything but an import."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield (alias.asname, alias.name) if alias.asname else (alias.name.partition(".")[0],) * 2
    elif isinstance(node, ast.ImportFrom):
        for alias in node.names:
            meaning = f"{node.module}.{alias.name}" if node.module and not node.level else ""
            yield alias.asname or alias.name, meaning
    elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield node.name, ""
    elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
        yield node.id, ""
    elif isinstance(node, ast.arg):
        yield node.arg, ""
    elif isinstance(node, ast.ExceptHandler) and node.name:
        yield node.name, ""


def _place(source: SourceFile, top: list[ImportNode], module: str, *, plain: bool) -> tuple[int, bool]:
    """Return where a new import goes, and whether it needs an empty line below it."""
    if top:
        kind = ast.Import if plain else ast.ImportFrom
        own = [node for node in top if not _is_future(node)] or top
        first = next((index for index, node in enumerate(own) if node.lineno > own[0].lineno + 40), len(own))
        block = own[:first]
        alike = [node for node in block if isinstance(node, kind)]
        after = [node for node in alike if _module(node) < module] or ([] if alike else block)
        if after:
            return source.block(after[-1])[1], False
        if _is_future(block[0]):
            return source.block(block[-1])[1], False
        return source.block((alike or block)[0])[0], False
    body = source.tree.body
    if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        return source.block(body[0])[1], True
    return (source.block(body[0])[0] if body else 0), True


def _module(node: ImportNode) -> str:
    return node.names[0].name if isinstance(node, ast.Import) else (node.module or "")


def _is_future(node: ImportNode) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"


def _texts(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) < 200:
            yield node.value


def _whole(source: SourceFile, node: ImportNode) -> tuple[int, int, str]:
    """Return the cut of a statement; where its block would be empty, a `pass` instead."""
    parent = source.parents.get(node)
    siblings = [block for name in ("body", "orelse", "finalbody") for block in [getattr(parent, name, None)]]
    alone = any(isinstance(block, list) and block == [node] for block in siblings)
    start, end = source.span(node)
    if not source.owns_its_lines(node) or (alone and not isinstance(parent, ast.Module)):
        return start, end, "pass"
    return *source.block(node), ""


def _one(source: SourceFile, node: ImportNode, alias: ast.alias) -> tuple[int, int, str]:
    """Return the cut of one name of several: with its line where it has one to itself, with its comma."""
    at = node.names.index(alias)
    ends = [source.offset(one.end_lineno or 0, one.end_col_offset or 0) for one in node.names]
    starts = [source.offset(one.lineno, one.col_offset) for one in node.names]
    if at + 1 < len(node.names):
        return starts[at], starts[at + 1], ""
    return ends[at - 1], ends[at], ""
