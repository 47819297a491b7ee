"""Statements that are surplus, in the wrong order, in the wrong place or at the wrong depth."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from lathe.mend.operators.place import Place, shifted
from lathe.mend.operators.registry import Edit, Site, operator

SIMPLE = (
    ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Expr, ast.Return, ast.Raise, ast.Break, ast.Continue, ast.Delete,
    ast.Assert,
)  # fmt: skip
COMPOUND = (ast.If, ast.For, ast.While, ast.With, ast.Try)
LEAVES = (ast.Return, ast.Raise, ast.Break, ast.Continue)
_FAR = 4


def spots(site: Site) -> list[int]:
    """Return where a statement can be put in: before this one and, if it is the last of its block, behind it."""
    place = site.place
    if place is None or _is_elif(site):
        return []
    found = [place.start]
    if place.is_last and not isinstance(place.node, LEAVES) and not place.is_cut_off:
        found.append(place.end)
    return found


@operator(*SIMPLE, *COMPOUND, kinds=("surplus statement",))
def surplus(site: Site) -> Iterator[Edit]:
    """Leave a statement out."""
    place = site.place
    if place is not None and not _is_elif(site):
        text = "" if len(place.body) > 1 else f"{place.indent}pass{site.source.newline}"
        extra = 0.0 if isinstance(site.node, SIMPLE) else 0.4
        yield from site.splice(place.start, place.end, text, "surplus statement", extra)


@operator(*SIMPLE, *COMPOUND, kinds=("surplus statement",))
def surplus_rest(site: Site) -> Iterator[Edit]:
    """Leave a statement and all that follows in its block out."""
    place = site.place
    if place is not None and not place.is_last and place.index and not _is_elif(site):
        end = site.source.block(place.body[-1])[1]
        yield from site.splice(place.start, end, "", "surplus statement", 0.8)


@operator(*SIMPLE, *COMPOUND, kinds=("statement order",))
def order(site: Site) -> Iterator[Edit]:
    """Exchange a statement with the next, and with the one after that."""
    place = site.place
    if place is None or _is_elif(site):
        return
    for distance in (1, 2):
        if place.index + distance < len(place.body):
            start, end = site.source.block(place.body[place.index + distance])
            following = site.source.text[start:end]
            following += "" if following.endswith(("\n", "\r")) else site.source.newline
            between = site.source.text[place.end : start]
            text = following + between + place.raw
            yield from site.splice(place.start, end, text, "statement order", 0.4 * (distance - 1))


@operator(ast.Assign, ast.AugAssign, kinds=("exchanged names",))
def exchanged_values(site: Site) -> Iterator[Edit]:
    """`a = x; b = y` as `a = y; b = x`; `a = x; b = y` as one assignment `a, b = x, y`."""
    node, place = site.node, site.place
    assert isinstance(node, (ast.Assign, ast.AugAssign))
    if place is None or not isinstance(place.after, (ast.Assign, ast.AugAssign)) or type(place.after) is not type(node):
        return
    following = place.after
    (start, middle_start), (middle_end, end) = site.source.span(node.value), site.source.span(following.value)
    between = site.source.text[middle_start:middle_end]
    text = f"{site.text(following.value)}{between}{site.text(node.value)}"
    yield from site.splice(start, end, text, "exchanged names", 0.1)
    if isinstance(node, ast.Assign) and isinstance(following, ast.Assign):
        first, second = node.targets[0], following.targets[0]
        if len(node.targets) == len(following.targets) == 1 and not isinstance(first, ast.Tuple):
            left, right = (
                f"{site.text(first)}, {site.text(second)}",
                f"{site.text(node.value)}, {site.text(following.value)}",
            )
            span = (site.source.span(node)[0], site.source.span(following)[1])
            yield from site.splice(*span, f"{left} = {right}", "exchanged names", 0.3)


@operator(*SIMPLE, *COMPOUND, kinds=("moved statement",))
def move(site: Site) -> Iterator[Edit]:
    """Move a statement a few places up or down in its block."""
    place = site.place
    if place is None or _is_elif(site):
        return
    low, high = max(0, place.index - _FAR), min(len(place.body) - 1, place.index + _FAR)
    for goal in range(low, high + 1):
        far = 0.1 * abs(goal - place.index)
        if goal < place.index - 1:
            start = site.source.block(place.body[goal])[0]
            if _is_docstring(place.body[goal]):
                continue
            text = place.raw + site.source.text[start : place.start]
            yield from site.splice(start, place.end, text, "moved statement", far)
        elif goal > place.index + 1:
            end = site.source.block(place.body[goal])[1]
            rest = site.source.text[place.end : end]
            rest += "" if rest.endswith(("\n", "\r")) else site.source.newline
            yield from site.splice(place.start, end, rest + place.raw, "moved statement", far)


@operator(*SIMPLE, *COMPOUND, kinds=("nesting",))
def outward(site: Site) -> Iterator[Edit]:
    """Move the end of a block, from this statement on, behind the block; its first statement before the block."""
    place, parent, source = site.place, site.parent, site.source
    if place is None or not isinstance(parent, COMPOUND) or _is_elif(site):
        return
    last_block = site.field == ("orelse" if getattr(parent, "orelse", None) else "body")
    end = source.block(parent)[1]
    if place.index and last_block and not isinstance(parent, ast.Try):
        tail = source.text[place.start : end]
        tail += "" if tail.endswith(("\n", "\r")) else source.newline
        moved = shifted(tail, parent.col_offset - place.node.col_offset, place.step)
        yield from site.splice(place.start, end, moved, "nesting", 0.0 if place.is_last else 0.3)
        outer = Place.of(source, parent, source.parents.get(parent), source.fields.get(parent, ""))
        around = source.parents.get(parent)
        if outer is not None and outer.is_last and isinstance(around, COMPOUND) and not getattr(around, "orelse", None):
            further = shifted(tail, around.col_offset - place.node.col_offset, place.step)
            yield from site.splice(place.start, end, further, "nesting", 0.4)
    if place.is_last and place.index and not last_block and site.field == "body":
        rest = source.text[place.end : end]
        rest += "" if rest.endswith(("\n", "\r")) else source.newline
        yield from site.splice(place.start, end, rest + place.moved(parent), "nesting", 0.5)
    opening = source.block(parent)[0]
    if place.index == 0 and len(place.body) > 1 and site.field == "body" and source.owns_line_start(parent):
        yield from site.splice(
            opening, place.end, place.moved(parent) + source.text[opening : place.start], "nesting", 0.2
        )


@operator(*SIMPLE, *COMPOUND, kinds=("nesting",))
def inward(site: Site) -> Iterator[Edit]:
    """Move a statement, or all from it on, into the block before it, or the block after it."""
    place, source = site.place, site.source
    if place is None or _is_elif(site):
        return
    before, after = place.before, place.after
    for depth, body in enumerate(_last_blocks(before)):
        goal = body[-1]
        if isinstance(goal, LEAVES):
            continue
        yield from site.splice(place.start, place.end, place.moved(goal), "nesting", 0.1 + 0.3 * depth)
        if not place.is_last and depth == 0:
            end = source.block(place.body[-1])[1]
            tail = source.text[place.start : end]
            tail += "" if tail.endswith(("\n", "\r")) else source.newline
            moved = shifted(tail, goal.col_offset - place.node.col_offset, place.step)
            yield from site.splice(place.start, end, moved, "nesting", 0.5)
    if isinstance(after, (ast.For, ast.While, ast.If, ast.With)) and source.owns_line_start(after.body[0]):
        start = source.block(after.body[0])[0]
        if after.body[0].lineno > after.lineno:
            text = source.text[place.end : start] + place.moved(after.body[0])
            yield from site.splice(place.start, start, text, "nesting", 0.2)


def _last_blocks(node: ast.stmt | None) -> Iterator[list[ast.stmt]]:
    """Yield the block that a compound statement ends with, then the block that one ends with, and so on."""
    while isinstance(node, (ast.For, ast.While, ast.If, ast.With)):
        body = node.orelse if isinstance(node, (ast.For, ast.While, ast.If)) and node.orelse else node.body
        if body[0].lineno == node.lineno:
            return
        if not (isinstance(node, ast.If) and len(body) == 1 and isinstance(body[0], ast.If) and body is node.orelse):
            yield body
        node = body[-1]


def _is_elif(site: Site) -> bool:
    node = site.node
    return isinstance(node, ast.If) and site.source.text.startswith("elif", site.source.span(node)[0])


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
