"""Statements that are surplus, missing, in the wrong place, or of the wrong kind."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from lathe.mend.operators.registry import Edit, Site, operator
from lathe.mend.source import Function

_SIMPLE = (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Expr, ast.Return, ast.Raise, ast.Break, ast.Continue)
_COMPOUND = (ast.If, ast.For, ast.While, ast.With, ast.Try)
_LEAVES = (ast.Return, ast.Raise, ast.Break, ast.Continue)
_ANSWERS = ("return", "return []", "return 0", "return False", "return True", "return None", 'return ""', "return -1")
_ERRORS = (
    "KeyError", "ValueError", "IndexError", "TypeError", "AttributeError", "LookupError", "OSError",
    "FileNotFoundError", "ZeroDivisionError", "StopIteration", "Exception",
)  # fmt: skip


class _Place:
    """A statement among its neighbours."""

    def __init__(self, site: Site) -> None:
        node = site.node
        assert isinstance(node, ast.stmt)
        self.node = node
        self.body: list[ast.stmt] = getattr(site.parent, site.field)
        self.index: int = self.body.index(node)
        self.start, self.end = site.source.block(node)
        self.indent = site.source.text[self.start : self.start + node.col_offset]
        self.raw = site.source.text[self.start : self.end]
        if not self.raw.endswith(("\n", "\r")):
            self.raw += "\n"

    @property
    def is_last(self) -> bool:
        """Whether nothing follows in the block."""
        return self.index == len(self.body) - 1


def _place(site: Site) -> _Place | None:
    """Return where the statement stands; None at the top of a module, in a class body, or on a shared line."""
    node = site.node
    assert isinstance(node, ast.stmt)
    docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    inside = isinstance(getattr(site.parent, site.field, None), list) and not isinstance(site.parent, ast.ClassDef)
    if docstring or not inside or site.source.function(site.parent or node) is None:
        return None
    return _Place(site) if site.source.owns_its_lines(node) else None


def _shifted(text: str, by: int) -> str:
    """Return `text` with every line that is not blank moved `by` columns to the right."""
    moved = [(" " * by + line if by > 0 else line[-by:]) if line.strip() else line for line in text.split("\n")]
    return "\n".join(moved)


@operator(*_SIMPLE, *_COMPOUND)
def surplus(site: Site) -> Iterator[Edit]:
    """Leave a statement out."""
    place = _place(site)
    if place is not None:
        text = "" if len(place.body) > 1 else f"{place.indent}pass\n"
        yield from site.splice(place.start, place.end, text, "surplus statement", 2.4)


@operator(*_SIMPLE, *_COMPOUND)
def order(site: Site) -> Iterator[Edit]:
    """Exchange a statement with the next."""
    place = _place(site)
    if place is not None and not place.is_last:
        start, end = site.source.block(place.body[place.index + 1])
        following = site.source.text[start:end]
        following += "" if following.endswith("\n") else "\n"
        between = site.source.text[place.end : start]
        yield from site.splice(place.start, end, following + between + place.raw, "statement order", 2.6)


@operator(*_SIMPLE)
def nesting(site: Site) -> Iterator[Edit]:
    """Move the last statement of a block behind the block, or a statement into the block before it."""
    place = _place(site)
    if place is None:
        return
    parent = site.parent
    if isinstance(parent, _COMPOUND) and place.is_last and len(place.body) > 1 and site.field == "body":
        end = site.source.block(parent)[1]
        rest = site.source.text[place.end : end]
        moved = _shifted(place.raw, parent.col_offset - place.node.col_offset)
        yield from site.splice(place.start, end, rest + moved, "nesting", 2.2)
    before = place.body[place.index - 1] if place.index else None
    if isinstance(before, (ast.For, ast.While, ast.If)):
        moved = _shifted(place.raw, before.body[0].col_offset - place.node.col_offset)
        yield from site.splice(place.start, place.end, moved, "nesting", 2.4)


@operator(*_SIMPLE, *_COMPOUND)
def missing(site: Site) -> Iterator[Edit]:
    """Insert a statement that stands elsewhere in the function, before this one or at the end of the block."""
    place = _place(site)
    if place is None:
        return
    ends = (
        place.is_last and not isinstance(place.node, _LEAVES) and place.raw == site.source.text[place.start : place.end]
    )
    for text, donor in site.scope.statements.items():
        cost = 3.8 if isinstance(donor, _LEAVES) else 3.0
        cost += min(1.0, abs(donor.lineno - place.node.lineno) / 20)
        yield from site.splice(place.start, place.start, f"{place.indent}{text}\n", "missing statement", cost)
        if ends:
            yield from site.splice(place.end, place.end, f"{place.indent}{text}\n", "missing statement", cost)


@operator(*_SIMPLE, *_COMPOUND)
def counting(site: Site) -> Iterator[Edit]:
    """Insert `n += 1`, `n -= 1`, `a.append(b)`, `a = b`."""
    place = _place(site)
    if place is None:
        return
    spots = [place.start]
    if place.is_last and not isinstance(place.node, _LEAVES) and site.source.text[: place.end].endswith("\n"):
        spots.append(place.end)
    names = [name for name in site.scope.names if name not in ("self", "cls")]
    fills = [
        f"{name}.{method}"
        for name, method in sorted(
            {
                (site.text(tree.func.value), tree.func.attr)
                for tree in site.scope.expressions.values()
                if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Attribute) and len(tree.args) == 1
            }
        )
    ]
    for spot in spots:
        for name in names:
            for text, cost in ((f"{name} += 1", 4.2), (f"{name} -= 1", 4.4), (f"{name} = 0", 4.6)):
                yield from site.splice(spot, spot, f"{place.indent}{text}\n", "missing statement", cost)
            for fill in fills:
                yield from site.splice(spot, spot, f"{place.indent}{fill}({name})\n", "missing statement", 3.8)
            for other in names:
                if other != name:
                    yield from site.splice(spot, spot, f"{place.indent}{name} = {other}\n", "missing statement", 4.4)


@operator(*_SIMPLE, *_COMPOUND)
def early_return(site: Site) -> Iterator[Edit]:
    """Insert `if not a: return ...` at the start of a function, for its parameters."""
    place = _place(site)
    parent = site.parent
    if place is None or not isinstance(parent, Function) or place.index > 1:
        return
    answers = [text for text, tree in site.scope.statements.items() if isinstance(tree, ast.Return)]
    answers = list(dict.fromkeys([*answers, *_ANSWERS]))
    for argument in [*parent.args.posonlyargs, *parent.args.args, *parent.args.kwonlyargs]:
        name = argument.arg
        if name in ("self", "cls"):
            continue
        tests = (f"not {name}", f"{name} is None", f"{name} < 0", f"{name} == 0", f"{name} == 1", f"len({name}) == 1")
        for rank, test in enumerate(tests):
            for answer in answers:
                text = f"{place.indent}if {test}:\n{place.indent}    {answer}\n"
                cost = (4.0 if rank < 2 else 4.8) + (0.0 if answer not in _ANSWERS else 0.2)
                yield from site.splice(place.start, place.start, text, "missing base case", cost)


@operator(*_SIMPLE, *_COMPOUND)
def leave_loop(site: Site) -> Iterator[Edit]:
    """Insert `if c: continue` or `if c: break` in a loop, with a condition of the function."""
    place = _place(site)
    if place is None or not isinstance(site.parent, (ast.For, ast.While)):
        return
    for test in site.scope.conditions:
        for word in ("continue", "break"):
            text = f"{place.indent}if {test}:\n{place.indent}    {word}\n"
            yield from site.splice(place.start, place.start, text, "missing guard", 4.2)


@operator(*_SIMPLE)
def conditional(site: Site) -> Iterator[Edit]:
    """Put a statement under a condition: one of the function, or a test of a name."""
    place = _place(site)
    if place is None:
        return
    inner = _shifted(place.raw, 4)
    tests = [(test, 3.7) for test in site.scope.conditions]
    for name in site.scope.names:
        if name not in ("self", "cls"):
            tests += [(name, 4.3), (f"not {name}", 4.3), (f"{name} is not None", 4.3)]
    for test, cost in tests:
        yield from site.splice(place.start, place.end, f"{place.indent}if {test}:\n{inner}", "missing guard", cost)


@operator(ast.If, ast.While)
def branching(site: Site) -> Iterator[Edit]:
    """`if` as `elif`, `while`; `elif` as `if`; the body without its condition."""
    node, source = site.node, site.source
    assert isinstance(node, (ast.If, ast.While))
    start = source.span(node)[0]
    word = next((word for word in ("elif", "if", "while") if source.text.startswith(word, start)), "")
    if word == "elif":
        yield from site.splice(start, start + 4, "if", "branching", 2.0)
        return
    place = _place(site)
    if place is None:
        return
    before = place.body[place.index - 1] if place.index else None
    if word == "if" and isinstance(before, ast.If) and not before.orelse:
        yield from site.splice(start, start + 2, "elif", "branching", 2.2)
    if not node.orelse:
        other = "while" if word == "if" else "if"
        yield from site.splice(start, start + len(word), other, "branching", 2.6 if word == "if" else 3.0)
        inner = source.text[source.block(node.body[0])[0] : source.block(node.body[-1])[1]]
        if source.owns_its_lines(node.body[0]):
            moved = _shifted(inner, node.col_offset - node.body[0].col_offset)
            yield from site.splice(place.start, place.end, moved, "surplus condition", 2.8)


@operator(ast.Break, ast.Continue, ast.Pass)
def jump(site: Site) -> Iterator[Edit]:
    """`break` as `continue`, `return` or `pass`."""
    node = site.node
    assert isinstance(node, (ast.Break, ast.Continue, ast.Pass))
    for word in ("break", "continue", "return", "pass"):
        yield from site.splice(*site.source.span(node), word, "wrong jump", 1.8)


@operator(ast.Return)
def answer(site: Site) -> Iterator[Edit]:
    """`return a` as `return b`, for names of the function and plain values."""
    node = site.node
    assert isinstance(node, ast.Return)
    span = site.source.span(node)
    for name in site.scope.names:
        yield from site.splice(*span, f"return {name}", "wrong result", 2.6)
    for text in ("True", "False", "None", "0", "1", "-1", "[]", '""'):
        yield from site.splice(*span, f"return {text}", "wrong result", 3.0)


@operator(ast.Expr)
def missing_return(site: Site) -> Iterator[Edit]:
    """`f(a)` as `return f(a)`; `a.f(b)` as `a = a.f(b)`."""
    node = site.node
    assert isinstance(node, ast.Expr)
    if isinstance(node.value, ast.Constant) or site.source.function(node) is None:
        return
    start = site.source.span(node)[0]
    yield from site.splice(start, start, "return ", "missing return", 1.9)
    if isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute):
        receiver = site.text(node.value.func.value)
        if "(" not in receiver:
            yield from site.splice(start, start, f"{receiver} = ", "lost result", 2.0)


@operator(ast.FunctionDef, ast.AsyncFunctionDef)
def missing_last_return(site: Site) -> Iterator[Edit]:
    """Insert `return a` at the end of a function that ends without one."""
    node = site.node
    assert isinstance(node, Function)
    last = node.body[-1]
    if isinstance(last, _LEAVES) or (not site.source.owns_its_lines(last) and not isinstance(last, _COMPOUND)):
        return
    end = site.source.block(last)[1]
    lead = "" if site.source.text[:end].endswith("\n") else "\n"
    for name in site.scope.names:
        text = f"{lead}{' ' * last.col_offset}return {name}\n"
        yield from site.splice(end, end, text, "missing return", 2.1, line=last.lineno)


@operator(ast.ExceptHandler, ast.Raise)
def error_type(site: Site) -> Iterator[Edit]:
    """`except KeyError` as `except ValueError`; `raise A` as `raise B`, with built-in errors and those of the file."""
    node = site.node
    assert isinstance(node, (ast.ExceptHandler, ast.Raise))
    named = node.type if isinstance(node, ast.ExceptHandler) else node.exc
    if isinstance(named, ast.Call):
        named = named.func
    if not isinstance(named, ast.Name):
        return
    own = [name for name in site.words.top if name[:1].isupper() and not name.isupper()]
    for name in [*own, *_ERRORS]:
        if name != named.id:
            yield from site.replace(named, name, "wrong exception", 2.0 if name in own else 2.3)
