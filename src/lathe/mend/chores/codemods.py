"""Codemods as data: a pattern, what to put in its place, and examples that are tried when the table is loaded.

In a pattern `$x` stands for any expression and `$*x` for all arguments of a call; a dotted name stands for what it is
imported as, however the file spells it. In a replacement `module:name` is spelled as the file has it, or imported.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Collection, Iterator, Sequence
from importlib.resources import files

import msgspec

from lathe.mend.chores.imports import add_import, bound_names, dotted, drop_imports, drop_unused, meanings
from lathe.mend.source import SourceFile

_META = "__one_"
_ALL = "__all_"
_TARGET = re.compile(r"([A-Za-z_][\w.]*):([A-Za-z_]\w*)")
_ROUNDS = 50


class Example(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Source that a rule turns into other source; an equal `after` says that it leaves it alone."""

    before: str
    after: str


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One codemod.

    `python` is the first Python with the replacement. `names` makes the rule one rule for each, `$NAME` in `match`
    and `replace`. `receiver` says for a variable of the pattern which call its value must have come from, `inside`
    which class the code must be in, `statement` that the match must be a statement of its own, `needs` which module
    the project must have installed.
    """

    id: str
    match: str
    replace: str
    since: str
    examples: tuple[Example, ...]
    python: str = "3.8"
    names: tuple[str, ...] = ()
    receiver: dict[str, str] = {}
    inside: str = ""
    statement: bool = False
    needs: str = ""

    def variants(self) -> Iterator[tuple[str, str]]:
        """Yield each pattern with its replacement."""
        for name in self.names or ("",):
            yield self.match.replace("$NAME", name), self.replace.replace("$NAME", name)


class _Table(msgspec.Struct, forbid_unknown_fields=True):
    rule: list[Rule]


class Match(msgspec.Struct):
    """Where a pattern fits, and the text that each of its variables stands for."""

    node: ast.expr
    texts: dict[str, str]


def load_rules() -> tuple[Rule, ...]:
    """Return the table. Raises `ValueError` for a rule that does not do what its examples say."""
    text = files("lathe.mend.chores").joinpath("deprecations.toml").read_text(encoding="utf-8")
    return parse_rules(text)


def parse_rules(text: str) -> tuple[Rule, ...]:
    """Return the rules of a table in TOML. Raises `ValueError` as `load_rules` does."""
    import tomllib

    rules = tuple(msgspec.convert(tomllib.loads(text), type=_Table).rule)
    for rule in rules:
        if not rule.examples:
            raise ValueError(f"Rule {rule.id} has no example.")
        for example in rule.examples:
            got = rewrite(example.before, rule)
            if got != example.after:
                raise ValueError(f"Rule {rule.id} turns {example.before!r} into {got!r}, not into {example.after!r}.")
    return rules


def rewrite(text: str, rule: Rule) -> str:
    """Return `text` with every match of `rule` replaced, its imports in order; equal to `text` where none fits.

    Raises `SyntaxError` for what does not parse.
    """
    if not _may_fit(text, rule):
        return text
    touched: set[str] = set()
    start = text
    for pattern, replacement in rule.variants():
        last = pattern.partition("(")[0].rpartition(".")[2].strip("$*")
        if not re.search(rf"\b{last}\b", text):
            continue
        tree = _parsed(pattern)
        for _ in range(_ROUNDS):
            after, names = _once(text, rule, tree, replacement)
            if after == text:
                break
            touched |= names
            text = after
    return drop_unused(text, touched) if text != start else text


def _may_fit(text: str, rule: Rule) -> bool:
    """Return whether the file has the words of the pattern at all: most files do not."""
    plain = re.sub(r"\$\*?\w+", "", rule.match)
    words = re.findall(r"\.(\w+)", plain) or re.findall(r"\w+", plain)
    root = re.match(r"[a-z]\w*(?=\.)", rule.match)
    if root and root[0] != "self" and not re.search(rf"^\s*(?:import|from)\s[^\n]*\b{root[0]}\b", text, re.MULTILINE):
        return False
    return all(word in text for word in words) and (not rule.names or any(name in text for name in rule.names))


def _parsed(pattern: str) -> ast.expr:
    plain = re.sub(r"\$\*(\w+)", rf"{_ALL}\1", pattern)
    return ast.parse(re.sub(r"\$(\w+)", rf"{_META}\1", plain), mode="eval").body


@functools.lru_cache(maxsize=4)  # several patterns look at one text in turn
def _read(text: str) -> tuple[SourceFile, dict[str, str]]:
    source = SourceFile("", text)
    return source, meanings(source.tree)


def _once(text: str, rule: Rule, pattern: ast.expr, replacement: str) -> tuple[str, set[str]]:
    """Return the text after the innermost matches were replaced, and the names that they began with."""
    source, names = _read(text)
    found = [one for one in _matches(source, pattern, names) if _fits(source, one, rule, names)]
    inner = [one for one in found if not any(other is not one and _holds(one, other) for other in found)]
    if not inner:
        return text, set()
    edits: list[tuple[int, int, str]] = []
    wanted: set[tuple[str, str]] = set()
    roots: set[str] = set()
    for one in inner:
        root = _root(one.node)
        through_module = isinstance(one.node, ast.Attribute) or isinstance(_callee(one.node), ast.Attribute)
        new, needs = _spelled(replacement, source, names, through_module)
        edits.append((*source.span(one.node), _filled(new, one.texts)))
        wanted |= needs
        roots |= {root} if root in names else set()
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    for module, symbol in sorted(wanted):
        text = add_import(text, module, symbol)
    # A name that goes on to be used, but is now another module's: its old import makes way.
    moved = {symbol: names[symbol] for _, symbol in wanted if symbol in roots and _uses(source, symbol) == len(edits)}
    text = drop_imports(text, moved)
    return text, roots


def _spelled(
    replacement: str, source: SourceFile, names: dict[str, str], through_module: bool
) -> tuple[str, set[tuple[str, str]]]:
    """Return the replacement with each `module:name` as the file spells it, and the imports that this needs."""
    needs: set[tuple[str, str]] = set()
    taken = bound_names(source.tree)

    def spell(target: re.Match[str]) -> str:
        module, symbol = target[1], target[2]
        for local, meaning in sorted(names.items()):
            if meaning == f"{module}.{symbol}":
                return local
        for local, meaning in sorted(names.items()):
            if meaning == module and (local == module or "." not in module or meaning != local):
                return f"{local}.{symbol}"
        root = module.partition(".")[0]
        if through_module and (root not in taken or names.get(root) == root):
            needs.add((module, ""))
            return f"{module}.{symbol}"
        if symbol in taken and names.get(symbol) != f"{module}.{symbol}" and not _is_replaced(symbol, names):
            needs.add((module, ""))
            return f"{module}.{symbol}"
        needs.add((module, symbol))
        return symbol

    return _TARGET.sub(spell, replacement), needs


def _filled(replacement: str, texts: dict[str, str]) -> str:
    return re.sub(r"\$\*?([a-z]\w*)", lambda variable: texts.get(variable[1], variable[0]), replacement)


def _uses(source: SourceFile, name: str) -> int:
    return sum(isinstance(node, ast.Name) and node.id == name for node in ast.walk(source.tree))


def _is_replaced(symbol: str, names: dict[str, str]) -> bool:
    """Return whether the name is imported from elsewhere, from where the codemod takes it away."""
    return symbol in names and names[symbol].endswith(f".{symbol}")


def _matches(source: SourceFile, pattern: ast.expr, names: dict[str, str]) -> Iterator[Match]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.expr) and isinstance(getattr(node, "ctx", ast.Load()), ast.Load):
            texts: dict[str, str] = {}
            if _fit(pattern, node, source, names, texts):
                yield Match(node, texts)


def _fit(pattern: ast.expr, node: ast.expr, source: SourceFile, names: dict[str, str], texts: dict[str, str]) -> bool:
    if isinstance(pattern, ast.Name) and pattern.id.startswith(_META):
        name = pattern.id.removeprefix(_META)
        return texts.setdefault(name, source.segment(node)) == source.segment(node)
    wanted = _chain(pattern)
    if wanted and wanted.partition(".")[0] != "self":
        return dotted(node, names) == wanted
    if isinstance(pattern, ast.Name):
        return isinstance(node, ast.Name) and node.id == pattern.id
    if isinstance(pattern, ast.Attribute):
        if isinstance(node, ast.Attribute) and node.attr == pattern.attr:
            return _fit(pattern.value, node.value, source, names, texts)
        return False
    if isinstance(pattern, ast.Call):
        return isinstance(node, ast.Call) and _fit_call(pattern, node, source, names, texts)
    return isinstance(pattern, ast.Constant) and isinstance(node, ast.Constant) and pattern.value == node.value


def _fit_call(
    pattern: ast.Call, node: ast.Call, source: SourceFile, names: dict[str, str], texts: dict[str, str]
) -> bool:
    if not _fit(pattern.func, node.func, source, names, texts):
        return False
    first = pattern.args[0] if pattern.args else None
    if isinstance(first, ast.Name) and first.id.startswith(_ALL):
        open_at = source.text.index("(", source.span(node.func)[1])
        texts[first.id.removeprefix(_ALL)] = source.text[open_at + 1 : source.span(node)[1] - 1]
        return True
    if len(pattern.args) != len(node.args) or len(pattern.keywords) != len(node.keywords):
        return False
    if any(isinstance(argument, ast.Starred) for argument in node.args):
        return False
    given = {word.arg: word.value for word in node.keywords}
    pairs = [(word.value, given.get(word.arg)) for word in pattern.keywords]
    return all(value is not None and _fit(wish, value, source, names, texts) for wish, value in pairs) and all(
        _fit(wish, value, source, names, texts) for wish, value in zip(pattern.args, node.args, strict=True)
    )


def _fits(source: SourceFile, one: Match, rule: Rule, names: dict[str, str]) -> bool:
    """Return whether the rule's conditions hold at a match."""
    if rule.statement and not isinstance(source.parents.get(one.node), ast.Expr):
        return False
    if rule.inside and not _is_inside(source, one.node, rule.inside, names):
        return False
    return all(_comes_from(source, one.texts.get(name, ""), call, names) for name, call in rule.receiver.items())


def _is_inside(source: SourceFile, node: ast.AST, wanted: str, names: dict[str, str]) -> bool:
    classes = {one.name: one for one in ast.walk(source.tree) if isinstance(one, ast.ClassDef)}
    current: ast.AST | None = node
    while current is not None and not isinstance(current, ast.ClassDef):
        current = source.parents.get(current)
    waiting, seen = [current] if isinstance(current, ast.ClassDef) else [], set()
    while waiting:
        one = waiting.pop()
        seen.add(one.name)
        for base in one.bases:
            said = dotted(base, names) or ast.unparse(base)
            if said == wanted or said.endswith(wanted.rpartition(".")[2]):
                return True
            if said in classes and said not in seen:
                waiting.append(classes[said])
    return False


def _comes_from(source: SourceFile, text: str, call: str, names: dict[str, str]) -> bool:
    """Return whether `text` is a variable that the file only ever sets to results of `call`."""
    values = []
    for node in ast.walk(source.tree):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, (ast.AnnAssign, ast.NamedExpr, ast.For)):
            targets = [node.target]
        if any(source.segment(target) == text for target in targets):
            values.append(getattr(node, "value", None))
    return bool(values) and all(isinstance(value, ast.Call) and dotted(value.func, names) == call for value in values)


def _chain(node: ast.expr) -> str:
    """Return a pattern's dotted name; "" where a variable or a call is in it."""
    if isinstance(node, ast.Name):
        return "" if node.id.startswith((_META, _ALL)) else node.id
    if isinstance(node, ast.Attribute):
        before = _chain(node.value)
        return f"{before}.{node.attr}" if before else ""
    return ""


def _callee(node: ast.expr) -> ast.expr:
    return node.func if isinstance(node, ast.Call) else node


def _root(node: ast.expr) -> str:
    current: ast.expr = node
    while not isinstance(current, ast.Name):
        inner = getattr(current, "func", None) or getattr(current, "value", None)
        if not isinstance(inner, ast.expr):
            return ""
        current = inner
    return current.id


def _holds(outer: Match, inner: Match) -> bool:
    return any(node is inner.node for node in ast.walk(outer.node))


def least_python(said: str) -> tuple[int, int]:
    """Return the oldest Python of a `requires-python`, (3, 8) where it does not say."""
    found = re.findall(r"(?:>=|~=|==|>)\s*3\.(\d+)", said)
    return (3, min(map(int, found))) if found else (3, 8)


def version(said: str) -> tuple[int, ...]:
    """Return a version like "3.9" as numbers."""
    return tuple(int(part) for part in said.split(".")[:2])


def chosen(rules: Sequence[Rule], words: Collection[str]) -> list[Rule]:
    """Return the rules that `words` name, by id or by what they replace; all of them without words."""
    if not words:
        return list(rules)
    found = []
    for rule in rules:
        said = {rule.id, *re.findall(r"\w+", rule.match), *rule.names}
        if any(set(re.findall(r"\w+", word)) <= said or word == rule.id for word in words):
            found.append(rule)
    return found
