"""Calls that stand nowhere yet: of the functions and methods of the file, with arguments that their signatures name."""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Iterator
from typing import NamedTuple

from lathe.mend.operators.registry import Edit, Site, operator
from lathe.mend.operators.statements import COMPOUND, SIMPLE, spots
from lathe.mend.source import Function

_MOST = 40
_SIDE_EFFECTS = frozenset(("antigravity", "this", "turtle", "idlelib", "tkinter", "lib2to3", "test"))


class Callee(NamedTuple):
    """Something that can be called here, as it is written, and the parameters that it must be given."""

    text: str
    required: tuple[str, ...]


def callees(site: Site) -> list[Callee]:
    """Return the methods of the class, as `self.f`, and the functions and classes of the module."""
    cache: dict[object, list[Callee]] = site.scope.__dict__.setdefault("callees", {})
    own = site.words.class_of(site.scope.owner)
    if site.source.path not in cache:
        found = list(_methods(own)) if own is not None and "self" in site.scope.names else []
        for name in [*site.scope.functions, *site.words.top]:
            for arguments in site.vocabulary.signatures.get(name, [])[:1]:
                found.append(_callee(name, arguments))
        name = getattr(site.scope.owner, "name", "")
        cache[site.source.path] = [one for one in found if one.text not in (name, f"self.{name}")]
    return cache[site.source.path]


def _methods(own: ast.ClassDef) -> Iterator[Callee]:
    for node in own.body:
        if not isinstance(node, Function) or node.name.startswith("__"):
            continue
        if not any(getattr(mark, "id", "") in ("property", "staticmethod") for mark in node.decorator_list):
            yield _callee(f"self.{node.name}", node.args)


def _callee(text: str, arguments: ast.arguments) -> Callee:
    names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    if names[:1] in (["self"], ["cls"]):
        names = names[1:]
    return Callee(text, tuple(names[: len(names) - len(arguments.defaults)]))


@operator(ast.Name, ast.Attribute, ast.Call, ast.Subscript, ast.BinOp, ast.Constant, kinds=("built call",))
def built(site: Site) -> Iterator[Edit]:
    """`a` as `f(a, b)`, `self.f(a)`, `f(b)`: each parameter as what has its name here, `a` for the one that is left."""
    node = site.node
    assert isinstance(node, ast.expr)
    text = site.text(node)
    if not site.is_short or (text in ("self", "cls") and isinstance(site.parent, ast.Attribute)):
        return
    rank = 0
    for one in callees(site):
        for filled, extra in _filled(site, one, text):
            if filled != text and rank < _MOST:
                yield from site.replace(node, filled, "built call", extra + 0.01 * rank, level=16)
                rank += 1


def _filled(site: Site, one: Callee, value: str) -> Iterator[tuple[str, float]]:
    known = [_known(site, name) for name in one.required]
    unknown = [at for at, name in enumerate(known) if not name]
    if len(one.required) > 4 or (not one.required and value not in ("self", one.text)):
        return
    own = 0.0 if one.text.startswith("self.") or one.text in site.scope.functions else 0.2
    if not unknown and value not in known:
        yield f"{one.text}({', '.join(known)})", own + (0.0 if value == "self" else 0.4)
    places = unknown if len(unknown) == 1 else range(len(known)) if not unknown else ()
    for at in places:
        if value not in ("self", known[at]):
            rest = [*known[:at], value, *known[at + 1 :]]
            if value not in known:
                yield f"{one.text}({', '.join(rest)})", own + (0.1 if unknown else 0.3)


def _known(site: Site, name: str) -> str:
    """Return what has the name of a parameter here: a variable, else an attribute of `self`; "" where nothing has."""
    if name in site.scope.names and name not in site.scope.inner:
        return name
    is_own = "self" in site.scope.names and f"self.{name}" in site.scope.expressions
    return f"self.{name}" if is_own else ""


@operator(*SIMPLE, *COMPOUND, ast.Pass, kinds=("missing state",))
def own_call(site: Site) -> Iterator[Edit]:
    """Insert `self.f()`, `self.f(a)` with a method of the class, each parameter as what has its name here."""
    place = site.place
    if place is None or "self" not in site.scope.names:
        return
    rank = 0
    for one in callees(site):
        known = [_known(site, name) for name in one.required]
        if one.text.startswith("self.") and all(known) and rank < _MOST:
            text = f"{place.indent}{one.text}({', '.join(known)})\n"
            used = 0.0 if site.words.counts[one.text[5:]] else 0.3
            for spot in spots(site):
                yield from site.insert(spot, text, "missing state", used + 0.04 * rank)
            rank += 1


@operator(ast.Name, kinds=("bare module",))
def bare_module(site: Site) -> Iterator[Edit]:
    """`io` as `io.IOBase`: a module as a value, what is used of it elsewhere first."""
    node = site.node
    assert isinstance(node, ast.Name)
    module = site.words.imports.get(node.id, "")
    if not site.is_value or isinstance(site.parent, ast.Attribute) or node.id in site.scope.names:
        return
    if module.partition(".")[0] not in sys.stdlib_module_names or module.partition(".")[0] in _SIDE_EFFECTS:
        return
    members = _members(module)
    used = [name for name in site.words.attributes if name in members]
    for rank, name in enumerate(dict.fromkeys([*used, *members])):
        yield from site.replace(node, f"{node.id}.{name}", "bare module", 0.01 * rank, level=16)


def _members(module: str) -> list[str]:
    try:
        found = importlib.import_module(module)
    except Exception:  # a part of the library that this machine lacks, or a name that is no module
        return []
    return [name for name in getattr(found, "__all__", dir(found)) if not name.startswith("_")]
