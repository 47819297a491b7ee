"""Renaming a symbol wherever it is meant, and nowhere else."""

from __future__ import annotations

import ast
import difflib
import io
import keyword
import re
import tokenize
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import msgspec

from lathe.mend.chores.capture import captures
from lathe.mend.chores.names import Definition, Leaf, Names, Place, is_attribute, is_builtin, is_common
from lathe.mend.chores.outcome import ChoreReport
from lathe.mend.chores.trial import Suite, Trial, open_trial, some
from lathe.mend.source import SourceFile
from lathe.protocol.errors import UsageError

KINDS = ("function", "method", "class", "variable", "constant", "attribute", "field", "parameter", "argument")
_SAME = {"constant": "variable", "field": "attribute", "argument": "parameter"}
_MEMBER = ("method", "attribute")
_TEXTS = (".md", ".rst", ".txt", ".toml", ".cfg", ".ini", ".yaml", ".yml", ".json")


class Order(msgspec.Struct, frozen=True):
    """What to rename: `old` may be dotted (`pkg.mod.Foo`, `Foo.bar`); `kind`, `file` and `of` narrow it; "" does not.

    `of` is the function of a parameter or the class of a member. `words` asks for comments and strings too.
    """

    old: str
    new: str
    kind: str = ""
    file: str = ""
    of: str = ""
    words: bool = False


class Found(msgspec.Struct):
    """The occurrences of a name, sorted by what they are: meant, unknown, or one that can also be something else."""

    meant: list[tuple[str, Leaf]]
    unknown: list[tuple[str, Leaf]]
    mixed: list[tuple[str, Leaf]]
    trusted: int = 0


def rename(path: Path, order: Order, seconds: float) -> ChoreReport:
    """Return the outcome of renaming in the project at `path`, whose files are not touched.

    Raises `UsageError` for a name that is not there, means several things, or would collide.
    """
    new = order.new
    if not new.isidentifier() or keyword.iskeyword(new):
        raise UsageError(f"{new} cannot be a name in Python.", hint="A name has letters, digits and _.", code="name")
    with open_trial(path, seconds) as trial:
        return _Renaming(trial, order).run()


class _Renaming:
    def __init__(self, trial: Trial, order: Order) -> None:
        self._trial = trial
        self._order = order
        self._old = order.old.rpartition(".")[2]
        self._names = Names(trial)
        self._above: dict[str, set[str]] | None = None

    def run(self) -> ChoreReport:
        old, new = self._old, self._order.new
        definitions = self._names.definitions(old)
        chosen = self._family(self._chosen(definitions), definitions)
        found = self._sort(chosen, definitions)
        if found.mixed:
            raise UsageError(
                f"{self._at(found.mixed[0])} may mean {chosen[0].qualname} or something else of that name, "
                "so it is not renamed by guess.",
                hint="Add a type annotation there, or configure a model.",
                code="ambiguous",
            )
        self._check_collisions(chosen, found)
        spans = self._spans(found, chosen)
        before = self._trial.suite()
        texts = {path: source.text for path in spans if (source := self._trial.read(path)) is not None}
        for path, places in spans.items():
            self._trial.write(path, _replaced(texts[path], places, new))
        after = self._trial.suite() if before.outcomes else before
        mentions = _mentions(self._trial, old)
        if worse := after.worse_than(before):
            return self._worse(worse, before, after, mentions)
        count = sum(map(len, spans.values()))
        evidence = [f"{self._trial.inside(path)}: {len(places)}" for path, places in sorted(spans.items())]
        if found.trusted:
            evidence.append(f"{found.trusted} of them on objects of unknown type: nothing else here has a .{old}")
        evidence.append(_tests_line(before, after))
        left = [f"{self._at(one)}: .{old} of an object whose type is not known" for one in found.unknown]
        left += [f"{place}: named in {what}" for place, what in mentions]
        kind = chosen[0].kind
        summary = f"{kind} {chosen[0].qualname} is now {new}: {count} places in {len(spans)} files."
        return self._trial.report("rename", "done", summary, evidence=evidence, left=left, before=before)

    # --- what is meant

    def _chosen(self, definitions: Sequence[Definition]) -> list[Definition]:
        order, old = self._order, self._old
        kind = _SAME.get(order.kind, order.kind)
        kinds = {"function": ("function", "method")}.get(kind, (kind,))
        fitting = []
        for definition in definitions:
            top = definition.kind not in ("parameter", "variable") or not _is_local(definition, self._names)
            if kind and definition.kind not in kinds:
                continue
            if not kind and definition.kind == "parameter" and not order.of:
                continue
            if order.of and not _ends(definition.owner, order.of):
                continue
            if order.file and not _is_file(self._trial.inside(definition.place[0]), order.file):
                continue
            if _ends(definition.qualname, order.old) and (top or kind == "parameter" or order.of):
                fitting.append(definition)
        if not fitting:
            raise self._missing()
        names = sorted({definition.qualname for definition in fitting})
        if len(names) > 1:
            exact = [definition for definition in fitting if definition.qualname == order.old]
            family = self._family(fitting[:1], fitting)
            if exact:
                return exact
            if len(family) < len(fitting):
                where = [f"{one.kind} {one.qualname} ({self._where(one.place)})" for one in _first_of_each(fitting)]
                raise UsageError(
                    f"{old} means {len(names)} things here: {some(where, 5)}.",
                    hint=f"Name one in full, for example `rename {names[0]} to {order.new}`.",
                    code="ambiguous",
                )
        return fitting

    def _missing(self) -> UsageError:
        order = self._order
        what = f"{order.kind or 'symbol'} {order.old}" + (f" of {order.of}" if order.of else "")
        where = f" in {order.file}" if order.file else ""
        known = set()
        for path in self._trial.paths():
            source = self._trial.read(path)
            known |= set(re.findall(r"(?:def|class) +(\w+)", source.text)) if source is not None else set()
        close = difflib.get_close_matches(self._old, sorted(known), 3)
        hint = (
            f"Near to it: {', '.join(close)}." if close else "Names are looked for in the Python files of the project."
        )
        return UsageError(f"No {what} is defined{where} here.", hint=hint, code="no_symbol")

    def _family(self, chosen: list[Definition], definitions: Sequence[Definition]) -> list[Definition]:
        """Return `chosen` with the definitions that override or are overridden by it."""
        if chosen[0].kind not in _MEMBER:
            return chosen
        above = self._class_graph()
        owners = {one.owner for one in definitions if one.kind in _MEMBER}
        family: set[str] = set()
        wanted = {one.owner for one in chosen}
        while wanted - family:
            family |= wanted
            up = {base for owner in family for base in _closure(owner, above)} & owners
            roots = family | up
            down = {owner for owner in owners if roots & _closure(owner, above)}
            wanted = up | down
        self._check_library(family, above)
        return [one for one in definitions if one.kind in _MEMBER and one.owner in family]

    def _class_graph(self) -> dict[str, set[str]]:
        """Return the bases of each class of the project, by qualified name."""
        if self._above is None:
            classes = self._names.classes()
            self._above = {}
            for place, qualname in classes.items():
                bases = {classes[base] for base in self._names.classes_above(place) if base in classes}
                self._above[qualname] = self._above.get(qualname, set()) | bases
        return self._above

    def _check_library(self, family: set[str], above: dict[str, set[str]]) -> None:
        lineage = family | {base for owner in family for base in _closure(owner, above)}
        for place, qualname in self._names.classes().items():
            if qualname in lineage and self._old in self._names.library_names(place):
                raise UsageError(
                    f"{qualname}.{self._old} takes the place of a method of a library's class, whose name is not ours.",
                    hint="Only names that this project defines can be changed.",
                    code="library",
                )

    def _sort(self, chosen: list[Definition], definitions: Sequence[Definition]) -> Found:
        targets = {one.place for one in chosen}
        others = [one for one in definitions if one.place not in targets and one.kind != "parameter"]
        member = chosen[0].kind in _MEMBER
        # An object of unknown type can only mean ours where nothing else has such an attribute.
        only_ours = member and not is_common(self._old) and not others
        wanted = {one.owner for one in chosen}
        owners = {place for place, name in self._names.classes().items() if name in wanted} if member else set()
        found = Found([], [], [])
        for path, leaf in self._names.occurrences(self._old):
            meant = {(path, *leaf.start_pos)} & targets or self._names.meant(path, leaf)
            if meant and meant <= targets:
                found.meant.append((path, leaf))
            elif meant & targets:
                found.mixed.append((path, leaf))
            elif not meant and member and is_attribute(leaf):
                (found.meant if only_ours else found.unknown).append((path, leaf))
                found.trusted += only_ours
            elif not meant and member and owners & self._names.callee(path, leaf):
                found.meant.append((path, leaf))
        return found

    # --- what would go wrong

    def _check_collisions(self, chosen: list[Definition], found: Found) -> None:
        new = self._order.new
        taken = self._names.definitions(new)
        owners = {one.owner for one in chosen}
        if chosen[0].kind in _MEMBER:
            above = self._class_graph()
            related = {one for one in self._names.classes().values() if (_closure(one, above) | {one}) & owners}
            related |= {base for owner in owners for base in _closure(owner, above)}
            owners |= related
        for one in taken:
            if one.owner in owners and (one.kind in _MEMBER) == (chosen[0].kind in _MEMBER):
                raise UsageError(
                    f"{one.owner} has a {one.kind} {new} already ({self._where(one.place)}).",
                    hint="Choose another name.",
                    code="collision",
                )
        if chosen[0].kind in _MEMBER:
            return
        lines: defaultdict[str, set[int]] = defaultdict(set)
        for path, leaf in found.meant:
            if not is_attribute(leaf) and not self._names.callee(path, leaf):
                lines[path].add(leaf.start_pos[0])
        for path, at in sorted(lines.items()):
            source = self._trial.read(path)
            clash = captures(source.text, self._old, new, at) if source is not None else None
            if clash:
                hint = "It is a name of the language itself. " if is_builtin(new) else ""
                raise UsageError(
                    f"{new} already means something in {self._trial.inside(path)}, line {clash}.",
                    hint=f"{hint}Choose another name.",
                    code="collision",
                )

    # --- where to write

    def _spans(self, found: Found, chosen: list[Definition]) -> dict[str, list[tuple[int, int]]]:
        """Return the spans to replace, by file, as offsets."""
        spans: defaultdict[str, set[tuple[int, int]]] = defaultdict(set)
        top_level = chosen[0].kind in ("function", "class", "variable")
        for path, leaf in found.meant:
            source = self._trial.read(path)
            if source is None:
                continue
            start = source.line_start(leaf.start_pos[0]) + leaf.start_pos[1]
            spans[path].add((start, start + len(self._old)))
            if top_level and not is_attribute(leaf):
                spans[path] |= set(_exported(source.text, self._old)) | set(_annotated(source, self._old))
        if self._order.words:
            for path in self._trial.paths():
                source = self._trial.read(path)
                if source is not None:
                    spans[path] |= set(_in_words(source.text, self._old))
        return {path: sorted(places) for path, places in spans.items() if places}

    def _worse(self, worse: list[str], before: Suite, after: Suite, mentions: list[tuple[str, str]]) -> ChoreReport:
        left = [f"{name}: {after.said.get(name, 'no longer runs')}" for name in worse]
        in_strings = [place for place, what in mentions if what == "a string"]
        if in_strings and not self._order.words:
            left.append(f"strings name it too: {some(in_strings)}; ask for it `also in strings and comments`")
        summary = f"The rename would break {len(worse)} tests that pass now, so nothing was kept."
        return self._trial.report("rename", "rejected", summary, left=left, before=before)

    def _at(self, one: tuple[str, Leaf]) -> str:
        return self._where((one[0], *one[1].start_pos))

    def _where(self, place: Place) -> str:
        return f"{self._trial.inside(place[0])}:{place[1]}"


def _tests_line(before: Suite, after: Suite) -> str:
    return f"tests before: {before}; after: {after}" if before.outcomes else "there are no tests to judge it"


def _ends(qualname: str, words: str) -> bool:
    return qualname == words or qualname.endswith("." + words)


def _is_file(path: str, words: str) -> bool:
    return path == words.removeprefix("./") or path.endswith("/" + words)


def _is_local(definition: Definition, names: Names) -> bool:
    return definition.owner != names.module_name(definition.place[0])


def _first_of_each(definitions: Sequence[Definition]) -> list[Definition]:
    return list({one.qualname: one for one in reversed(definitions)}.values())[::-1]


def _closure(owner: str, above: dict[str, set[str]]) -> set[str]:
    """Return everything above a class."""
    seen: set[str] = set()
    waiting = list(above.get(owner, ()))
    while waiting:
        base = waiting.pop()
        if base not in seen:
            seen.add(base)
            waiting += above.get(base, ())
    return seen


def _replaced(text: str, places: Sequence[tuple[int, int]], new: str) -> str:
    for start, end in reversed(places):
        text = text[:start] + new + text[end:]
    return text


def _exported(text: str, old: str) -> list[tuple[int, int]]:
    """Return where `__all__` lists the name."""
    found = []
    for match in re.finditer(r"^__all__\b[^\n]*?[=(][^\])]*[\])]", text, re.MULTILINE):
        found += [
            (match.start() + one.start(1), match.start() + one.end(1))
            for one in re.finditer(rf"""["']({re.escape(old)})["']""", match[0])
        ]
    return found


def _annotated(source: SourceFile, old: str) -> list[tuple[int, int]]:
    """Return where annotations in quotes have the name: they are code, not strings."""
    found = []
    for node in ast.walk(source.tree):
        notes = [getattr(node, "annotation", None), getattr(node, "returns", None)]
        if isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "cast",
            "typing.cast",
            "TypeVar",
            "typing.TypeVar",
        ):
            notes += node.args[:1] + [word.value for word in node.keywords if word.arg == "bound"]
        for inner in (inner for note in notes if isinstance(note, ast.AST) for inner in ast.walk(note)):
            if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
                start, end = source.span(inner)
                for one in re.finditer(rf"(?<![\w.]){re.escape(old)}(?!\w)", source.text[start:end]):
                    found.append((start + one.start(), start + one.end()))
    return found


def _in_words(text: str, old: str) -> list[tuple[int, int]]:
    """Return where comments and strings have the name as a whole word."""
    source = SourceFile("", text)
    found = []
    for token in _tokens(text):
        if token.type in (tokenize.COMMENT, tokenize.STRING):
            line, column = token.start
            start = source.line_start(line) + column
            found += [(start + one.start(), start + one.end()) for one in re.finditer(_word(old), token.string)]
    return found


def _mentions(trial: Trial, old: str) -> list[tuple[str, str]]:
    """Return the places that still name it, in strings, comments and texts, with what they are."""
    found = []
    for path in trial.paths():
        source = trial.read(path)
        if source is None or old not in source.text:
            continue
        for token in _tokens(source.text):
            if token.type in (tokenize.COMMENT, tokenize.STRING) and re.search(_word(old), token.string):
                what = "a comment" if token.type == tokenize.COMMENT else "a string"
                found.append((f"{trial.inside(path)}:{token.start[0]}", what))
    for file in sorted(trial.workspace.cwd.rglob("*")):
        if file.suffix in _TEXTS and file.is_file() and file.stat().st_size < 1 << 20:
            text = file.read_text(encoding="utf-8", errors="replace")
            lines = [number for number, line in enumerate(text.split("\n"), 1) if re.search(_word(old), line)]
            name = file.relative_to(trial.workspace.cwd)
            found += [(f"{name}:{lines[0]}", "a text")] if lines else []
    return found


def _word(name: str) -> str:
    return rf"(?<!\w){re.escape(name)}(?!\w)"


def _tokens(text: str) -> list[tokenize.TokenInfo]:
    try:
        return list(tokenize.generate_tokens(io.StringIO(text).readline))
    except (tokenize.TokenError, SyntaxError):
        return []
