"""Moving a function, class or constant from one module to another, with every import of it."""

from __future__ import annotations

import ast
import re
import symtable
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import msgspec

from lathe.mend.chores.imports import ImportNode, add_import, drop_unused
from lathe.mend.chores.names import Definition, Names, is_builtin
from lathe.mend.chores.outcome import ChoreReport
from lathe.mend.chores.trial import Trial, open_trial, some
from lathe.mend.source import SourceFile
from lathe.protocol.errors import UsageError


class Order(msgspec.Struct, frozen=True):
    """What to move: `name` from `origin` ("" where only one file defines it) to `target`, paths in the project."""

    name: str
    target: str
    origin: str = ""


def move(path: Path, order: Order, seconds: float) -> ChoreReport:
    """Return the outcome of moving in the project at `path`, whose files are not touched.

    Raises `UsageError` for a name that is not there or stands in several files, and for a move that would make two
    modules import each other.
    """
    with open_trial(path, seconds) as trial:
        return _Move(trial, order).run()


class _Move:
    def __init__(self, trial: Trial, order: Order) -> None:
        self._trial = trial
        self._name = order.name
        self._names = Names(trial)
        self._definition = self._find(order)
        self._origin = self._definition.place[0]
        self._target = str(trial.workspace.inside / PurePosixPath(order.target.removeprefix("./")))
        self._module = self._names.module_name(self._origin)
        self._new_module = self._names.module_name(self._target)
        if self._origin == self._target:
            raise UsageError(f"{order.name} is in {order.target} already.", hint="Name another file.", code="same_file")
        if not self._target.endswith(".py"):
            raise UsageError(
                f"{order.target} is no Python file.", hint="Name a file that ends with .py.", code="target"
            )

    def run(self) -> ChoreReport:
        trial, name = self._trial, self._name
        users = self._users()
        texts = trial.texts()
        changed = self._moved(texts)
        for path in users:
            if path not in (self._origin, self._target):
                changed[path] = self._redirected(texts[path], path)
        before = trial.suite()
        for path, text in changed.items():
            trial.write(path, text)
        after = trial.suite() if before.outcomes else before
        if worse := after.worse_than(before):
            left = [f"{test}: {after.said.get(test, 'no longer runs')}" for test in worse]
            summary = f"The move would break {len(worse)} tests that pass now, so nothing was kept."
            return trial.report("move", "rejected", summary, left=left, before=before)
        files = [trial.inside(path) for path in trial.changed()]
        evidence = [f"changed: {some(files, 12)}"]
        evidence.append(
            f"tests before: {before}; after: {after}" if before.outcomes else "there are no tests to judge it"
        )
        summary = (
            f"{name} is now in {trial.inside(self._target)}, and {len(files) - 2} other files import it from there."
        )
        return trial.report("move", "done", summary, evidence=evidence, before=before)

    def _find(self, order: Order) -> Definition:
        found = []
        for one in self._names.definitions(order.name):
            file = self._trial.inside(one.place[0])
            top = one.owner == self._names.module_name(one.place[0])
            if top and (
                not order.origin or file == order.origin.removeprefix("./") or file.endswith("/" + order.origin)
            ):
                found.append(one)
        files = sorted({one.place[0] for one in found})
        if not files:
            where = f" of {order.origin}" if order.origin else ""
            raise UsageError(
                f"No {order.name} is defined at the top level{where}.",
                hint="Functions, classes and constants of a module can be moved.",
                code="no_symbol",
            )
        if len(found) > 1:
            places = [f"{self._trial.inside(one.place[0])}:{one.place[1]}" for one in found]
            raise UsageError(
                f"{order.name} is defined more than once: {some(places)}.",
                hint=f"Say from which file: move {order.name} from {self._trial.inside(files[0])} to {order.target}.",
                code="ambiguous",
            )
        return found[0]

    def _users(self) -> list[str]:
        """Return the files that mean the symbol."""
        found = []
        for path, leaf in self._names.occurrences(self._name):
            if self._definition.place in self._names.meant(path, leaf) and path not in found:
                found.append(path)
        return found

    # --- the two modules

    def _moved(self, texts: dict[str, str]) -> dict[str, str]:
        """Return the new texts of the module that gives and the one that takes."""
        source = SourceFile(self._origin, texts[self._origin])
        node = self._node(source)
        start, end = _with_comments(source, node)
        segment = source.text[start:end]
        rest = source.text[:start].rstrip() + "\n" * 3 + source.text[end:].lstrip("\n")
        rest = rest.strip("\n") + "\n"
        needs, back = self._needs(source, segment)
        goes_on = _uses(rest, self._name)
        target = texts.get(self._target, self._header(source))
        imports_us = any(self._is_origin(one, self._target) for one in _from_imports(ast.parse(target)))
        if goes_on and (back or (imports_us and self._imports_more(target))):
            raise UsageError(
                f"{self._trial.inside(self._origin)} goes on using {self._name}, and {self._name} uses "
                f"{some(sorted(back)) or 'other names'} from there: the two modules would import each other.",
                hint="Move what it uses first.",
                code="cycle",
            )
        self._check_target(target, needs, back)
        target = self._redirected(target, self._target) if self._target in texts else target
        target = _appended(target, segment)
        for module, name, alias in needs:
            target = _imported(target, module, name, alias)
        for name in sorted(back):
            target = add_import(target, self._module, name)
        if goes_on:
            rest = add_import(rest, self._new_module, self._name)
        rest = drop_unused(rest, [alias or name or module.partition(".")[0] for module, name, alias in needs])
        return {self._origin: rest, self._target: target}

    def _node(self, source: SourceFile) -> ast.stmt:
        line = self._definition.place[1]
        for node in source.tree.body:
            if source.first_line(node) <= line <= (node.end_lineno or node.lineno):
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)):
                    return node
                break
        raise UsageError(
            f"{self._name} is defined inside another statement, so it cannot be moved by itself.",
            hint="Move it by hand.",
            code="nested",
        )

    def _needs(self, source: SourceFile, segment: str) -> tuple[list[tuple[str, str, str]], set[str]]:
        """Return the imports that the moved code needs, as (module, name, alias), and the names it leaves behind."""
        free = _free_names(segment) - {self._name}
        imports: list[tuple[str, str, str]] = []
        back: set[str] = set()
        seen: set[str] = set()
        for node in source.tree.body:
            for name, module, symbol in self._bindings(node):
                if name in free and name not in seen:
                    seen.add(name)
                    if module:
                        imports.append((module, symbol, name if name not in (symbol, module.partition(".")[0]) else ""))
                    else:
                        back.add(name)
        unknown = {name for name in free - seen if not is_builtin(name)}
        if unknown:
            self._trial.notes.append(f"{some(sorted(unknown))}: where that comes from is not known")
        return imports, back

    def _bindings(self, node: ast.stmt) -> Iterator[tuple[str, str, str]]:
        """Yield what a statement of the module binds: name, module and symbol; no module for what it defines."""
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.asname or alias.name.partition(".")[0], alias.name, ""
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield alias.asname or alias.name, self._absolute(node, self._origin), alias.name
        else:
            for inner in ast.walk(node):
                if isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and inner is node:
                    yield inner.name, "", ""
                elif isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store) and not _is_scope(node):
                    yield inner.id, "", ""
                elif isinstance(inner, ImportNode):
                    yield from self._bindings(inner)

    def _check_target(self, target: str, needs: list[tuple[str, str, str]], back: set[str]) -> None:
        tree = ast.parse(target)
        taken = {
            name
            for node in tree.body
            for name, module, symbol in self._bindings(node)
            if (module, symbol) not in {(one, two) for one, two, _ in needs}
        }
        mine = any(alias.name == self._name for one in _from_imports(tree) for alias in one.names)
        wanted = {alias or name or module.partition(".")[0] for module, name, alias in needs} | back
        clash = sorted((wanted & taken) - back) or ([self._name] if self._name in taken and not mine else [])
        if clash:
            raise UsageError(
                f"{self._trial.inside(self._target)} has another {clash[0]} already.",
                hint="Rename one of the two first.",
                code="collision",
            )

    def _header(self, source: SourceFile) -> str:
        future = any(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in source.tree.body)
        return "from __future__ import annotations\n" if future else ""

    def _imports_more(self, text: str) -> bool:
        """Return whether the target imports more from the origin than the symbol."""
        for node in _from_imports(ast.parse(text)):
            if self._is_origin(node, self._target) and any(alias.name != self._name for alias in node.names):
                return True
        return False

    # --- the other modules

    def _redirected(self, text: str, path: str) -> str:
        """Return a file that gets the symbol from its new module."""
        source = SourceFile(path, text)
        edits: list[tuple[int, int, str]] = []
        wanted: set[str] = set()
        explicit = False
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ImportFrom) and self._is_origin(node, path):
                explicit = explicit or any(alias.name == self._name for alias in node.names)
                edits += self._import_edits(source, node, path)
            elif isinstance(node, ast.Attribute) and node.attr == self._name and self._is_ours(source, node):
                edits.append((*source.span(node.value), self._new_module))
                wanted.add(self._new_module)
        roots = {_root(source.text[start:end]) for start, end, new in edits if new == self._new_module}
        if not edits and path != self._target:  # it came through a star
            return add_import(text, self._new_module, self._name) if _uses(text, self._name) else text
        for start, end, new in sorted(edits, reverse=True):
            text = text[:start] + new + text[end:]
        for module in sorted(wanted):
            text = add_import(text, module)
        return drop_unused(text, roots - {self._new_module.partition(".")[0]})

    def _import_edits(self, source: SourceFile, node: ast.ImportFrom, path: str) -> list[tuple[int, int, str]]:
        own = [alias for alias in node.names if alias.name == self._name]
        if not own:
            return []
        alone = len(own) == len(node.names)
        if path == self._target:
            return [(*source.block(node), "")] if alone else [_without(source, node, own[0])]
        module = self._spelled(node, path)
        start, end = source.span(node)
        if alone:
            head = re.match(r"from\s+\S+", source.text[start:end])
            assert head is not None
            return [(start, start + head.end(), f"from {module}")]
        said = f"{self._name} as {own[0].asname}" if own[0].asname else self._name
        margin = source.text[source.line_start(node.lineno) : start]
        return [_without(source, node, own[0]), (end, end, f"\n{margin}from {module} import {said}")]

    def _spelled(self, node: ast.ImportFrom, path: str) -> str:
        """Return the new module as this file would import it: relative where it was and can be."""
        package = self._package(path)
        if node.level == 1 and self._new_module.rpartition(".")[0] == package:
            return "." + self._new_module.rpartition(".")[2]
        return self._new_module

    def _is_ours(self, source: SourceFile, node: ast.Attribute) -> bool:
        end = node.end_col_offset or 0
        line = source.lines[(node.end_lineno or 1) - 1]
        column = len(line.encode()[:end].decode()) - len(self._name)
        for path, leaf in self._names.occurrences(self._name):
            if path == source.path and leaf.start_pos == (node.end_lineno, column):
                return self._definition.place in self._names.meant(path, leaf)
        return False

    def _is_origin(self, node: ast.ImportFrom, path: str) -> bool:
        return self._absolute(node, path) == self._module

    def _absolute(self, node: ast.ImportFrom, path: str) -> str:
        if not node.level:
            return node.module or ""
        parts = self._package(path).split(".")
        parts = parts[: len(parts) - node.level + 1]
        return ".".join([*parts, *([node.module] if node.module else [])])

    def _package(self, path: str) -> str:
        module = self._names.module_name(path)
        return module if path.endswith("__init__.py") else module.rpartition(".")[0]


def _with_comments(source: SourceFile, node: ast.stmt) -> tuple[int, int]:
    """Return the span of a statement with the comment lines that stand right above it."""
    start, end = source.block(node)
    line = source.first_line(node) - 1
    while line >= 1 and source.lines[line - 1].startswith("#") and line > 1:
        start = source.line_start(line)
        line -= 1
    return start, end


def _appended(text: str, segment: str) -> str:
    """Return `text` with a definition at its end, before a main block."""
    source = SourceFile("", text)
    last = source.tree.body[-1] if source.tree.body else None
    if isinstance(last, ast.If) and "__name__" in ast.unparse(last.test):
        at = source.block(last)[0]
        return f"{text[:at].rstrip()}\n\n\n{segment.strip()}\n\n\n{text[at:]}".lstrip("\n")
    return f"{text.rstrip()}\n\n\n{segment.strip()}\n".lstrip("\n")


def _imported(text: str, module: str, name: str, alias: str) -> str:
    if not alias:
        return add_import(text, module, name)
    line = f"from {module} import {name} as {alias}" if name else f"import {module} as {alias}"
    if line in text:
        return text
    return add_import(text, module, f"{name} as {alias}") if name else add_import(text, f"{module} as {alias}")


def _free_names(segment: str) -> set[str]:
    """Return the names that a piece of a module takes from around it; those in quoted annotations included."""
    found: set[str] = set()

    def visit(table: symtable.SymbolTable, top: bool) -> None:
        for symbol in table.get_symbols():
            if symbol.is_referenced() and (top or symbol.is_global()):
                found.add(symbol.get_name())
        for child in table.get_children():
            visit(child, False)

    visit(symtable.symtable(segment, "segment", "exec"), True)
    for node in ast.walk(ast.parse(segment)):
        notes = [getattr(node, "annotation", None), getattr(node, "returns", None)]
        for inner in (inner for note in notes if isinstance(note, ast.AST) for inner in ast.walk(note)):
            if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
                found |= set(re.findall(r"(?<![\w.])[A-Za-z_]\w*", inner.value))
            elif isinstance(inner, ast.Name):
                found.add(inner.id)
    return found


def _from_imports(tree: ast.Module) -> list[ast.ImportFrom]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]


def _uses(text: str, name: str) -> bool:
    tree = ast.parse(text)
    used = any(isinstance(node, ast.Name) and node.id == name for node in ast.walk(tree))
    return used or bool(re.search(rf"__all__[^\]]*[\"']{re.escape(name)}[\"']", text))


def _without(source: SourceFile, node: ast.ImportFrom, alias: ast.alias) -> tuple[int, int, str]:
    at = node.names.index(alias)
    starts = [source.offset(one.lineno, one.col_offset) for one in node.names]
    ends = [source.offset(one.end_lineno or 0, one.end_col_offset or 0) for one in node.names]
    if at + 1 < len(node.names):
        return starts[at], starts[at + 1], ""
    return ends[at - 1], ends[at], ""


def _is_scope(node: ast.stmt) -> bool:
    return isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))


def _root(text: str) -> str:
    return text.partition(".")[0]
