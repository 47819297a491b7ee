"""Calls that do not fit the function they call, as far as its signature is known.

Signatures of the project come from its source; those of builtins and of the standard library from `inspect.signature`
of what the file imports, in this process. Modules that do something when they are imported are left out.
"""

from __future__ import annotations

import ast
import difflib
import functools
import importlib
import inspect
import sys
from collections.abc import Iterator
from typing import NamedTuple

from lathe.mend.operators.calls import end_of_arguments
from lathe.mend.operators.registry import Edit, Site, operator

_SIDE_EFFECTS = frozenset(("antigravity", "this", "idlelib", "turtle", "turtledemo", "tkinter", "test", "__main__"))
_TYPES = (str, bytes, list, dict, set, int, float, tuple)


class Interface(NamedTuple):
    """What a function takes: positional parameters, how many of them are needed, all that go by keyword."""

    positional: tuple[str, ...]
    required: int
    keywords: tuple[str, ...]
    takes_any_keyword: bool


@functools.cache
def interface_of(dotted: str) -> Interface | None:
    """Return the interface of a builtin or of a member of the standard library; None if there is none to be had."""
    module, _, name = dotted.rpartition(".")
    top = module.partition(".")[0]
    if top in _SIDE_EFFECTS or (top != "builtins" and top not in sys.stdlib_module_names):
        return None
    try:
        return _read(getattr(importlib.import_module(module), name), bound=False)
    except (ImportError, AttributeError, ValueError, TypeError, OSError):
        return None


@functools.cache
def interfaces_of_method(name: str) -> tuple[Interface, ...]:
    """Return the interfaces of a method of the plain types."""
    found = []
    for kind in _TYPES:
        try:
            found.append(_read(getattr(kind, name), bound=True))
        except (AttributeError, ValueError, TypeError):
            continue
    return tuple(dict.fromkeys(found))


def _read(function: object, *, bound: bool) -> Interface:
    parameters = list(inspect.signature(function).parameters.values())  # type: ignore[arg-type]  # raises TypeError if none
    parameters = parameters[1:] if bound else parameters
    first, both, _, named, any_named = inspect._ParameterKind
    positional = [parameter for parameter in parameters if parameter.kind in (first, both)]
    return Interface(
        tuple(parameter.name for parameter in positional),
        sum(parameter.default is parameter.empty for parameter in positional),
        tuple(parameter.name for parameter in parameters if parameter.kind in (both, named)),
        any(parameter.kind is any_named for parameter in parameters),
    )


def _of_arguments(arguments: ast.arguments) -> Interface:
    every = [*arguments.posonlyargs, *arguments.args]
    names = tuple(argument.arg for argument in every if argument.arg not in ("self", "cls"))
    keywords = (*(name for name in names), *(argument.arg for argument in arguments.kwonlyargs))
    return Interface(names, len(names) - len(arguments.defaults), keywords, arguments.kwarg is not None)


def _interfaces(site: Site, node: ast.Call) -> list[Interface]:
    own = [_of_arguments(arguments) for arguments in site.vocabulary.signatures.get(site.called(), [])]
    function = node.func
    if isinstance(function, ast.Name):
        if function.id in site.words.imports:
            dotted = site.words.imports[function.id]
        else:
            dotted = f"builtins.{function.id}" if not own and function.id not in site.scope.names else ""
        found = interface_of(dotted) if "." in dotted else None
        return [*own, *([found] if found else [])]
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
        module = site.words.imports.get(function.value.id)
        if module is not None and function.value.id not in site.scope.names:
            found = interface_of(f"{module}.{function.attr}")
            return [found] if found else own
    if isinstance(function, ast.Attribute) and not own:
        return list(interfaces_of_method(function.attr))
    return own


@operator(ast.Call, kinds=("unknown keyword", "wrong keyword"))
def keyword(site: Site) -> Iterator[Edit]:
    """`f(revers=True)` as `f(reverse=True)`: the nearest keyword that the function takes, then the others."""
    node = site.node
    assert isinstance(node, ast.Call)
    if not node.keywords:
        return
    for interface in _interfaces(site, node):
        given = {entry.arg for entry in node.keywords}
        free = [name for name in interface.keywords[0 if not node.args else len(node.args) :] if name not in given]
        for entry in node.keywords:
            if entry.arg is None:
                continue
            start = site.source.span(entry)[0]
            is_known = entry.arg in interface.keywords or interface.takes_any_keyword
            near = sorted(free, key=lambda name: -difflib.SequenceMatcher(None, name, entry.arg or "").ratio())
            for rank, name in enumerate(near[:6]):
                kind = "wrong keyword" if is_known else "unknown keyword"
                yield from site.splice(start, start + len(entry.arg), name, kind, 0.15 * rank)
            if not is_known:
                yield from site.splice(start, site.source.span(entry.value)[0], "", "unknown keyword", 0.3)


@operator(ast.Call, kinds=("missing argument",))
def required_argument(site: Site) -> Iterator[Edit]:
    """`f(a)` as `f(a, b)` where the function needs two: with the name of the parameter first, then any."""
    node = site.node
    assert isinstance(node, ast.Call)
    if any(isinstance(argument, (ast.Starred, ast.GeneratorExp)) for argument in node.args):
        return
    given = {entry.arg for entry in node.keywords}
    if None in given:
        return
    end, comma = end_of_arguments(site, node)
    for interface in _interfaces(site, node):
        missing = [name for name in interface.positional[len(node.args) : interface.required] if name not in given]
        if not missing:
            continue
        like = difflib.get_close_matches(missing[0], site.names, n=2, cutoff=0.6)
        texts = list(dict.fromkeys([*like, *site.names, "None", "0", "1", "True", '""', "[]"]))
        for rank, text in enumerate(texts):
            extra = min(0.8, 0.05 * rank)
            yield from site.splice(
                end, end, f"{comma}{missing[0]}={text}" if given else f"{comma}{text}", "missing argument", extra
            )
            if node.args and not given:
                start = site.source.span(node.args[0])[0]
                yield from site.splice(start, start, f"{text}, ", "missing argument", extra + 0.2)


@operator(ast.Call, kinds=("wrong keyword",))
def by_keyword(site: Site) -> Iterator[Edit]:
    """`f(a, b)` as `f(a, k=b)`: what was given by position meant a later parameter."""
    node = site.node
    assert isinstance(node, ast.Call)
    if not node.args or isinstance(node.args[-1], (ast.Starred, ast.GeneratorExp)) or len(node.args) > 3:
        return
    given = {entry.arg for entry in node.keywords}
    start = site.source.span(node.args[-1])[0]
    for interface in _interfaces(site, node):
        later = [
            name
            for name in interface.keywords
            if name not in given and name not in interface.positional[: len(node.args)]
        ]
        for rank, name in enumerate(later[:5]):
            yield from site.splice(start, start, f"{name}=", "wrong keyword", 0.4 + 0.1 * rank)
