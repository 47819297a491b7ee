"""Branches and loops: `if` for `elif`, for `while`; `else` missing or too many; the wrong jump."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from lathe.mend.operators.place import indented, shifted
from lathe.mend.operators.registry import Edit, Site, operator
from lathe.mend.operators.statements import LEAVES, SIMPLE


@operator(ast.If, ast.While, kinds=("branching", "surplus condition"))
def branching(site: Site) -> Iterator[Edit]:
    """`if` as `elif`, `while`; `elif` as `if`, `else`; the body without its condition."""
    node, source = site.node, site.source
    assert isinstance(node, (ast.If, ast.While))
    start = source.span(node)[0]
    word = next((word for word in ("elif", "if", "while") if source.text.startswith(word, start)), "")
    if word == "elif":
        yield from site.splice(start, start + 4, "if", "branching")
        if not node.orelse and node.body[0].lineno > node.lineno:
            colon = source.text.rindex(":", start, source.block(node.body[0])[0])
            yield from site.splice(start, colon, "else", "branching", 0.3)
        return
    place = site.place
    if place is None:
        return
    if word == "if" and isinstance(place.before, ast.If) and not _ends_in_else(place.before):
        yield from site.splice(start, start + 2, "elif", "branching")
    if not node.orelse:
        other = "while" if word == "if" else "if"
        yield from site.splice(start, start + len(word), other, "branching", 0.2 if word == "if" else 0.5)
        inner = source.text[source.block(node.body[0])[0] : source.block(node.body[-1])[1]]
        if source.owns_line_start(node.body[0]) and node.body[0].lineno > node.lineno:
            moved = shifted(inner, node.col_offset - node.body[0].col_offset, place.step)
            yield from site.splice(place.start, place.end, moved, "surplus condition", 0.5)


@operator(ast.For, kinds=("branching",))
def loop_to_condition(site: Site) -> Iterator[Edit]:
    """The body of a loop without the loop; the `else` of a loop as what follows it."""
    node, source, place = site.node, site.source, site.place
    assert isinstance(node, ast.For)
    if place is None or not node.orelse or node.orelse[0].lineno == node.lineno:
        return
    start, end = source.block(node.orelse[0])[0], source.block(node.orelse[-1])[1]
    keyword = source.text.rindex("else", 0, start)
    line = source.text.rindex("\n", 0, keyword) + 1
    moved = shifted(source.text[start:end], node.col_offset - node.orelse[0].col_offset, place.step)
    yield from site.splice(line, end, moved, "branching", 0.2)


@operator(ast.If, kinds=("branching", "swapped branches", "surplus condition"))
def else_branch(site: Site) -> Iterator[Edit]:
    """`else` gone; its body behind the `if`; the two bodies exchanged; `else` of an `if` as `else` of the loop."""
    node, source = site.node, site.source
    assert isinstance(node, ast.If)
    if not node.orelse or node.body[0].lineno == node.lineno or not source.owns_line_start(node.orelse[0]):
        return
    first, last = node.orelse[0], node.orelse[-1]
    if isinstance(first, ast.If) and source.text.startswith("elif", source.span(first)[0]):
        return
    start, end = source.block(first)[0], source.block(last)[1]
    body_start, body_end = source.block(node.body[0])[0], source.block(node.body[-1])[1]
    head = source.text[body_end:start]
    if head.strip().rstrip(":").strip() != "else" or first.col_offset != node.body[0].col_offset:
        return
    body, other = source.text[body_start:body_end], source.text[start:end]
    other += "" if other.endswith(("\n", "\r")) else source.newline
    yield from site.splice(body_start, end, other + head + body, "swapped branches")
    yield from site.splice(body_end, end, "", "surplus condition", 0.6)
    by = node.col_offset - first.col_offset
    yield from site.splice(body_end, end, shifted(other, by, source.step), "branching", 0.1)
    parent = source.parents.get(node)
    if isinstance(parent, (ast.For, ast.While)) and parent.body[-1] is node and not parent.orelse:
        outer = shifted(head + other, parent.col_offset - node.col_offset, source.step)
        yield from site.splice(body_end, end, outer, "branching", 0.2)


@operator(ast.If, kinds=("swapped branches",))
def branch_order(site: Site) -> Iterator[Edit]:
    """`if a: x elif b: y` as `if b: y elif a: x`, and as `if b: x elif a: y`."""
    node, source = site.node, site.source
    assert isinstance(node, ast.If)
    if len(node.orelse) != 1 or not isinstance(node.orelse[0], ast.If) or node.body[0].lineno == node.lineno:
        return
    other = node.orelse[0]
    start = source.span(other)[0]
    if not source.text.startswith("elif", start) or other.body[0].lineno == other.lineno:
        return
    first = (source.span(node.test)[0], source.block(node.body[-1])[1])
    second = (source.span(other.test)[0], source.block(other.body[-1])[1])
    one, two = source.text[slice(*first)], source.text[slice(*second)]
    if two.endswith(("\n", "\r")):
        yield from site.splice(
            first[0], second[1], two + source.text[first[1] : second[0]] + one, "swapped branches", 0.3
        )
    middle = source.text[source.span(node.test)[1] : second[0]]
    text = site.text(other.test) + middle + site.text(node.test)
    yield from site.splice(first[0], source.span(other.test)[1], text, "swapped branches", 0.3)


@operator(ast.If, kinds=("missing else",))
def new_else(site: Site) -> Iterator[Edit]:
    """An `else` for an `if`: with what follows, with a return, with a statement of the function."""
    node, source, place = site.node, site.source, site.place
    assert isinstance(node, ast.If)
    if _ends_in_else(node) or node.body[0].lineno == node.lineno:
        return
    start = source.block(node)[0]
    indent = source.text[start : start + node.col_offset]
    if indent.strip():
        return
    end, step = source.block(node)[1], source.step
    if not source.text[:end].endswith(("\n", "\r")):
        return
    if place is not None and place.after is not None:
        for rank, last in enumerate((place.after, place.body[-1])):
            low, high = source.block(place.after)[0], source.block(last)[1]
            text = source.text[low:high]
            text += "" if text.endswith(("\n", "\r")) else source.newline
            head = f"{indent}else:{source.newline}"
            yield from site.splice(
                end, high, source.text[end:low] + head + indented(text, step), "missing else", 0.3 * rank
            )
    deeds = [f"return {text}" for text in site.scope.answers(site.function)[:6]]
    if isinstance(site.parent, (ast.For, ast.While)):
        deeds += ["break", "continue"]
    deeds += [
        text for text, tree in site.scope.statements.items() if isinstance(tree, (ast.Assign, ast.AugAssign, ast.Expr))
    ]
    for rank, deed in enumerate(dict.fromkeys(deeds)):
        text = f"{indent}else:\n{indent}{step}{deed}\n"
        yield from site.insert(end, text, "missing else", 0.4 + min(0.8, 0.06 * rank))


@operator(*SIMPLE, kinds=("missing else",))
def into_else(site: Site) -> Iterator[Edit]:
    """What follows an `if` under an `else` of it; a value of a branch as `elif` is `conditional`."""
    place, source = site.place, site.source
    if place is None or not isinstance(place.before, ast.If) or _ends_in_else(place.before):
        return
    if place.before.body[0].lineno == place.before.lineno or isinstance(place.before.body[-1], LEAVES):
        return
    head = f"{place.indent}else:{source.newline}"
    yield from site.splice(place.start, place.end, head + place.moved(deeper=True), "missing else")


@operator(ast.Break, ast.Continue, ast.Pass, ast.Return, kinds=("wrong jump",))
def jump(site: Site) -> Iterator[Edit]:
    """`break` as `continue`, `return`, `pass`, `return a`; `return` as `break`, `continue`."""
    node = site.node
    assert isinstance(node, (ast.Break, ast.Continue, ast.Pass, ast.Return))
    if site.function is None:
        return
    words = ["break", "continue", "pass", "return"]
    if isinstance(node, ast.Return):
        inside = _is_in_loop(site)
        words = (["break", "continue"] if inside else []) + ["pass"]
        if node.value is not None and node.value.lineno == node.value.end_lineno:
            words.append(site.text(node.value))
    else:
        words += [f"return {text}" for text in site.scope.answers(site.function)[:6]]
    span = site.source.span(node)
    for rank, word in enumerate(words):
        yield from site.splice(*span, word, "wrong jump", min(0.8, 0.1 * rank))


def _is_in_loop(site: Site) -> bool:
    current = site.parent
    while current is not None and not isinstance(current, (ast.FunctionDef, ast.AsyncFunctionDef)):
        if isinstance(current, (ast.For, ast.While, ast.AsyncFor)):
            return True
        current = site.source.parents.get(current)
    return False


def _ends_in_else(node: ast.If) -> bool:
    while len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If):
        node = node.orelse[0]
    return bool(node.orelse)
