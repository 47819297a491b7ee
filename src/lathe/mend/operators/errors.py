"""Exceptions: the wrong type raised or caught, none raised, none caught."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from lathe.mend.operators.place import indented
from lathe.mend.operators.registry import Edit, Site, operator
from lathe.mend.operators.reusable import BUILTINS

_ERRORS = (
    "ValueError", "KeyError", "TypeError", "IndexError", "AttributeError", "LookupError", "OSError", "RuntimeError",
    "FileNotFoundError", "ZeroDivisionError", "StopIteration", "Exception", "NotImplementedError", "AssertionError",
    "UnicodeDecodeError", "OverflowError", "ArithmeticError", "ImportError", "StopAsyncIteration", "RecursionError",
    "NameError", "PermissionError", "TimeoutError", "EOFError",
)  # fmt: skip
_CAUGHT = (
    "KeyError",
    "ValueError",
    "IndexError",
    "TypeError",
    "AttributeError",
    "StopIteration",
    "ZeroDivisionError",
    "OSError",
)


def _known(site: Site) -> list[str]:
    """Return the exceptions that can be named here, those of the file and of the project first."""
    known = {*site.words.top, *BUILTINS}
    clues = site.vocabulary.clues
    told = [name for name in (*clues.expected, *clues.raised) if name in known]
    own = [name for name in site.words.top if name in site.vocabulary.errors or name.endswith(("Error", "Exception"))]
    used = [name for name in _ERRORS if name in site.scope.expressions]
    return list(dict.fromkeys([*told, *own, *used, *_ERRORS]))


@operator(ast.ExceptHandler, ast.Raise, kinds=("wrong exception", "unexpected exception"))
def error_type(site: Site) -> Iterator[Edit]:
    """`except KeyError` as `except ValueError`, also within a tuple; `raise A` as `raise B`."""
    node = site.node
    assert isinstance(node, (ast.ExceptHandler, ast.Raise))
    named = node.type if isinstance(node, ast.ExceptHandler) else node.exc
    if isinstance(named, ast.Call):
        named = named.func
    for one in named.elts if isinstance(named, ast.Tuple) else [named]:
        if isinstance(one, (ast.Name, ast.Attribute)):
            told = isinstance(node, ast.Raise) and site.text(one) in site.vocabulary.clues.raised
            kind = "unexpected exception" if told else "wrong exception"
            for rank, name in enumerate(_known(site)):
                if name != site.text(one):
                    yield from site.replace(one, name, kind, min(0.8, 0.04 * rank), level=16)


@operator(ast.Raise, kinds=("raised text",))
def raised_text(site: Site) -> Iterator[Edit]:
    """`raise "text"` as `raise ValueError("text")`: a text cannot be raised."""
    node = site.node
    assert isinstance(node, ast.Raise)
    is_text = isinstance(node.exc, (ast.JoinedStr, ast.BinOp, ast.BoolOp, ast.IfExp))
    is_text = is_text or isinstance(getattr(node.exc, "value", None), str)
    if node.exc is not None and (is_text or site.text(node.exc) in site.scope.parameters):
        for rank, name in enumerate(_known(site)):
            text = f"{name}({site.text(node.exc)})"
            yield from site.replace(node.exc, text, "raised text", min(1.0, 0.05 * rank), level=16)


@operator(ast.ExceptHandler, kinds=("exception form",))
def caught(site: Site) -> Iterator[Edit]:
    """`except A` as `except (A, B)`, `except Exception`; a bare `except` with a type; one type of a tuple less."""
    node, source = site.node, site.source
    assert isinstance(node, ast.ExceptHandler)
    start = source.span(node)[0]
    if node.type is None:
        for rank, name in enumerate(("Exception", *_known(site)[:6])):
            yield from site.splice(
                start + len("except"), start + len("except"), f" {name}", "exception form", 0.1 * rank
            )
        return
    text = site.text(node.type)
    inner = text[1:-1].rstrip().rstrip(",") if isinstance(node.type, ast.Tuple) and text.startswith("(") else text
    for rank, name in enumerate(_known(site)):
        if name not in inner:
            yield from site.replace(node.type, f"({inner}, {name})", "exception form", min(0.8, 0.05 * rank), level=16)
    if isinstance(node.type, ast.Tuple):
        for one in node.type.elts:
            yield from site.replace(node.type, site.text(one), "exception form", 0.4)


@operator(ast.ExceptHandler, kinds=("exception form",))
def handled(site: Site) -> Iterator[Edit]:
    """What a handler does, as `raise`, `pass`, `continue`, `return None`, `return a`."""
    node, source = site.node, site.source
    assert isinstance(node, ast.ExceptHandler)
    if len(node.body) != 1 or not source.owns_its_lines(node.body[0]):
        return
    span = source.span(node.body[0])
    for rank, text in enumerate(
        ("raise", "pass", "return None", "return False", "continue", "break", "return []", "return 0")
    ):
        yield from site.splice(*span, text, "exception form", 0.2 + 0.08 * rank, line=node.body[0].lineno)


@operator(ast.Return, ast.Pass, ast.Expr, kinds=("exception form",))
def raise_instead(site: Site) -> Iterator[Edit]:
    """`return None` as `raise ValueError`; `ValueError("...")` as a statement as `raise ValueError("...")`."""
    node = site.node
    assert isinstance(node, ast.stmt)
    if site.function is None:
        return
    start, end = site.source.span(node)
    if isinstance(node, ast.Expr):
        called = node.value.func if isinstance(node.value, ast.Call) else node.value
        if isinstance(called, ast.Name) and called.id in _known(site):
            yield from site.splice(start, start, "raise ", "exception form")
        return
    if isinstance(node, ast.Return) and node.value is not None and not isinstance(node.value, ast.Constant):
        return
    for rank, name in enumerate(_known(site)[:8]):
        yield from site.splice(start, end, f"raise {name}", "exception form", 0.4 + 0.08 * rank)


@operator(ast.Return, kinds=("exception form",))
def returned_error(site: Site) -> Iterator[Edit]:
    """`return ValueError("...")` as `raise ValueError("...")`."""
    node = site.node
    assert isinstance(node, ast.Return)
    if (
        isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Name)
        and node.value.func.id in _known(site)
    ):
        start = site.source.span(node)[0]
        yield from site.splice(start, start + len("return"), "raise", "exception form")


@operator(ast.Assign, ast.AugAssign, ast.Expr, ast.Return, kinds=("missing handler",))
def missing_handler(site: Site) -> Iterator[Edit]:
    """Put a statement into `try` with a handler: `pass`, `continue`, `return None`, an early answer."""
    node, place = site.node, site.place
    assert isinstance(node, ast.stmt)
    if place is None or isinstance(site.parent, ast.Try):
        return
    inner = indented(place.raw, place.step)
    in_loop = isinstance(site.parent, (ast.For, ast.While))
    answers = [f"return {text}" for text in site.scope.answers(site.function)[:4]]
    deeds = [*(["continue", "break"] if in_loop else []), "pass", "return None", *answers]
    if isinstance(node, ast.Assign):
        deeds += [f"{site.text(node.targets[0])} = {value}" for value in ("None", "0", "[]")]
    for rank, error in enumerate(_CAUGHT):
        for more, deed in enumerate(dict.fromkeys(deeds)):
            head = f"{place.indent}try:{site.source.newline}{inner}"
            tail = f"{place.indent}except {error}:\n{place.indent}{place.step}{deed}\n".replace(
                "\n", site.source.newline
            )
            yield from site.splice(place.start, place.end, head + tail, "missing handler", 0.06 * rank + 0.05 * more)
