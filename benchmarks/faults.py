"""Kinds of faults: each looks at one node of a function and yields texts that a mistaken person might have left there.

The first twenty kinds and their weights are the patterns and counts (thousands) of the 413,000 single-statement fixes
in CTSSB-1M (Richter and Wehrheim: "TSSB-3M: Mining single statement bugs at massive scale", MSR 2022), turned round: a
fix that adds an argument becomes a fault that drops one. The kinds after them are what that list leaves out, among it
the guards and statements that Pan, Kim and Whitehead ("Toward an understanding of bug fix patterns", 2009) count; their
weights are ours, together about a quarter. Nothing here knows how `lathe.mend` repairs, and no code is shared with it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from program import Callable_, Function, Program

Found = Iterator[tuple[ast.AST, str]]
Kind = Callable[["Place", ast.AST], Found]


class Registered(NamedTuple):
    """A kind of fault."""

    name: str
    weight: float
    look: Kind


KINDS: dict[str, Registered] = {}


def kind(name: str, weight: float) -> Callable[[Kind], Kind]:
    def register(look: Kind) -> Kind:
        KINDS[name] = Registered(name, weight, look)
        return look

    return register


class Place:
    """What a kind may know: the file and the function around the node that it looks at."""

    def __init__(self, program: Program, function: Callable_) -> None:
        self.program = program
        self.function = function
        self.nodes = [node for node in ast.walk(function) if self._is_code(node)]
        self.bound = self._bound()

    def of(self, node: ast.AST) -> str:
        return self.program.of(node)

    def operand(self, node: ast.AST) -> str:
        """Return a node as it is written, with the parentheses around it."""
        start, end = self.program.span(node)
        before, after = self.program.text[:start].rstrip(), self.program.text[end:].lstrip()
        return f"({self.of(node)})" if before.endswith("(") and after.startswith(")") else self.of(node)

    def up(self, node: ast.AST) -> ast.AST | None:
        return self.program.parent.get(node)

    def field(self, node: ast.AST) -> str:
        return self.program.field.get(node, "")

    def names_before(self, line: int) -> list[str]:
        """Return the variables of the function that are bound above `line`, in the order of their binding."""
        return [name for name, first in self.bound.items() if first < line and name not in ("self", "cls")]

    def attributes_of(self, base: str) -> list[str]:
        """Return the attributes that the file reads of something written like `base`, without those it calls."""
        return self.program.members.get((base, False), [])

    def methods_of(self, base: str) -> list[str]:
        return self.program.members.get((base, True), [])

    def signatures(self, name: str) -> list[ast.arguments]:
        """Return what functions of the file with this name accept."""
        return self.program.signatures.get(name, [])

    def _is_code(self, node: ast.AST) -> bool:
        """Return whether a node of the function is neither text for people nor a type nor inside an f-string."""
        current: ast.AST | None = node
        while current is not None and current is not self.function:
            above = self.program.parent.get(current)
            if isinstance(above, ast.JoinedStr) or self.program.is_docstring(current):
                return False
            if self.program.field.get(current) in ("annotation", "returns", "decorator_list"):
                return False
            current = above
        return hasattr(node, "lineno")

    def _bound(self) -> dict[str, int]:
        arguments = self.function.args
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        found = {each.arg: 0 for each in every if each is not None}
        stored = [node for node in self.nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
        for node in sorted(stored, key=lambda each: (each.lineno, each.col_offset)):
            current: ast.AST | None = node
            while current is not None and not isinstance(current, (ast.comprehension, ast.stmt)):
                current = self.up(current)
            if not isinstance(current, ast.comprehension):
                found.setdefault(node.id, node.lineno)
        return found


def is_read(node: ast.AST) -> bool:
    return isinstance(getattr(node, "ctx", ast.Load()), ast.Load)


def call_text(place: Place, node: ast.Call, arguments: list[ast.expr | ast.keyword]) -> str:
    return f"{place.of(node.func)}({', '.join(place.of(each) for each in arguments)})"


# --- the patterns of CTSSB-1M


@kind("wrong variable", 69)
def wrong_variable(place: Place, node: ast.AST) -> Found:
    if not isinstance(node, ast.Name) or not is_read(node) or node.id not in place.bound or place.field(node) == "func":
        return
    if not isinstance(place.up(node), (ast.BinOp, ast.Compare, ast.BoolOp)):
        yield from ((node, name) for name in place.names_before(node.lineno) if name != node.id)


@kind("wrong operand", 48)
def wrong_operand(place: Place, node: ast.AST) -> Found:
    if not isinstance(place.up(node), (ast.BinOp, ast.Compare, ast.BoolOp)) or not isinstance(node, ast.expr):
        return
    if not isinstance(node, (ast.Name, ast.Attribute, ast.Subscript, ast.Call)):
        return
    known = set(place.names_before(node.lineno)) | {"self"}
    for other in place.nodes:
        if isinstance(other, (ast.Name, ast.Attribute, ast.Subscript)) and is_read(other) and place.of(other) != "self":
            names = {inner.id for inner in ast.walk(other) if isinstance(inner, ast.Name)}
            if names and names <= known and len(place.of(other)) < 30 and place.field(other) != "func":
                yield node, place.of(other)


@kind("missing argument", 41)
def missing_argument(place: Place, node: ast.AST) -> Found:
    if isinstance(node, ast.Call):
        positional = node.args[:-1] if node.args and not isinstance(node.args[-1], ast.Starred) else node.args
        if len(positional) < len(node.args) and not isinstance(node.args[-1], ast.GeneratorExp):
            yield node, call_text(place, node, [*positional, *node.keywords])
        for dropped in node.keywords:
            if dropped.arg is not None:
                yield (
                    node,
                    call_text(place, node, [*node.args, *(each for each in node.keywords if each is not dropped)]),
                )


CONFUSED = [
    set(words.split())
    for words in """
    min max|any all|sorted list reversed set tuple|int float|int round|len sum|isinstance issubclass|str repr|zip map
    getattr hasattr|append extend|strip lstrip rstrip|startswith endswith|find index rfind rindex|ceil floor|pop popleft
    upper lower title capitalize|items keys values|split rsplit splitlines partition|append appendleft insert
    update setdefault|add discard remove|match search fullmatch|ljust rjust center|isdigit isalpha isalnum|encode decode
    union difference|removeprefix removesuffix|partition rpartition
    """.strip()
    .replace("\n", "|")
    .split("|")
]


def confused_with(name: str) -> list[str]:
    return sorted(set().union(*(group for group in CONFUSED if name in group)) - {name})


@kind("wrong function", 39)
def wrong_function(place: Place, node: ast.AST) -> Found:
    if not isinstance(node, ast.Call):
        return
    if isinstance(node.func, ast.Name):
        local = {each.name for each in place.program.tree.body if isinstance(each, Function)}
        same_file = sorted(local - {node.func.id, place.function.name}) if node.func.id in local else []
        yield from ((node.func, name) for name in [*confused_with(node.func.id), *same_file])
    elif isinstance(node.func, ast.Attribute):
        base = place.of(node.func.value)
        names = {*confused_with(node.func.attr), *place.methods_of(base)} - {node.func.attr}
        yield from ((node.func, f"{base}.{name}") for name in sorted(names))


@kind("missing call around", 32)
def missing_call_around(place: Place, node: ast.AST) -> Found:
    if not isinstance(node, ast.Call) or len(node.args) != 1 or isinstance(place.up(node), ast.Expr):
        return
    if isinstance(node.func, ast.Name) and not isinstance(node.args[0], (ast.Starred, ast.GeneratorExp)):
        yield node, place.of(node.args[0])


@kind("wrong number", 33)
def wrong_number(place: Place, node: ast.AST) -> Found:
    value = node.value if isinstance(node, ast.Constant) else None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        near = [value + 1, value - 1] if isinstance(value, int) else [value * 10, value + 1, value / 2]
        yield from ((node, repr(each)) for each in near)
        if isinstance(value, int) and value > 9:
            yield from ((node, repr(each)) for each in (value * 10, value // 10, value // 2))


@kind("wrong attribute", 30)
def wrong_attribute(place: Place, node: ast.AST) -> Found:
    if isinstance(node, ast.Attribute) and is_read(node) and place.field(node) != "func":
        base = place.of(node.value)
        yield from ((node, f"{base}.{name}") for name in place.attributes_of(base) if name != node.attr)


def without_part(place: Place, node: ast.AST, operator: type[ast.boolop]) -> Found:
    if isinstance(node, ast.BoolOp) and isinstance(node.op, operator):
        word = " and " if operator is ast.And else " or "
        for dropped in node.values:
            yield node, word.join(place.operand(each) for each in node.values if each is not dropped)


@kind("missing part of an and", 16)
def missing_and(place: Place, node: ast.AST) -> Found:
    yield from without_part(place, node, ast.And)


@kind("missing method call", 17)
def missing_method_call(place: Place, node: ast.AST) -> Found:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return
    value = node.func.value
    if isinstance(value, (ast.Name, ast.Call, ast.Subscript, ast.Attribute)) and not isinstance(
        place.up(node), ast.Expr
    ):
        yield node, place.of(value)


@kind("missing element", 15)
def missing_element(place: Place, node: ast.AST) -> Found:
    if isinstance(node, (ast.List, ast.Tuple, ast.Set)) and is_read(node) and len(node.elts) > 2:
        opening, closing = {ast.List: ("[", "]"), ast.Set: ("{", "}"), ast.Tuple: ("(", ")")}[type(node)]
        for dropped in node.elts:
            yield node, opening + ", ".join(place.of(each) for each in node.elts if each is not dropped) + closing
    elif isinstance(node, ast.Dict) and len(node.values) > 1 and None not in node.keys:
        pairs = [
            f"{place.of(key)}: {place.of(value)}" for key, value in zip(node.keys, node.values, strict=True) if key
        ]
        yield from ((node, "{" + ", ".join(pairs[:at] + pairs[at + 1 :]) + "}") for at in range(len(pairs)))


TOO_MUCH = {
    "sorted": ["reverse=True"],
    "split": ["None, 1"],
    "strip": ['"_"'],
    "round": ["1"],
    "pop": ["0"],
    "get": ["None"],
}
TOO_MUCH |= {
    "replace": ["1"],
    "enumerate": ["1"],
    "sum": ["1"],
    "rstrip": ['"_"'],
    "lstrip": ['"_"'],
    "splitlines": ["True"],
}


@kind("extra argument", 14)
def extra_argument(place: Place, node: ast.AST) -> Found:
    if not isinstance(node, ast.Call) or any(isinstance(each, ast.Starred) for each in node.args):
        return
    name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
    inside = [place.of(each) for each in (*node.args, *node.keywords)]
    for more in TOO_MUCH.get(name, ()):
        if not node.keywords and len(node.args) == (1 if isinstance(node.func, ast.Name) or name == "get" else 0):
            yield node, f"{place.of(node.func)}({', '.join([*inside, more])})"
    for accepted in place.signatures(name):
        taken = len(node.args) + isinstance(node.func, ast.Attribute)
        for parameter in accepted.args[taken:]:
            if parameter.arg not in {each.arg for each in node.keywords} and not node.keywords:
                for variable in place.names_before(node.lineno):
                    yield node, f"{place.of(node.func)}({', '.join([*inside, f'{parameter.arg}={variable}'])})"


@kind("wrong truth value", 13)
def wrong_truth_value(place: Place, node: ast.AST) -> Found:
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield node, str(not node.value)


@kind("missing attribute", 10)
def missing_attribute(place: Place, node: ast.AST) -> Found:
    if not isinstance(node, ast.Attribute) or not is_read(node) or place.field(node) == "func":
        return
    if isinstance(node.value, (ast.Name, ast.Attribute)) and place.of(node.value) not in ("self", "cls"):
        yield node, place.of(node.value)


SIGNS: dict[type[ast.AST], str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%", ast.Pow: "**",
    ast.BitAnd: "&", ast.BitOr: "|", ast.LShift: "<<", ast.RShift: ">>", ast.And: "and", ast.Or: "or",
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=", ast.Is: "is",
    ast.IsNot: "is not", ast.In: "in", ast.NotIn: "not in",
}  # fmt: skip
MISTAKEN = {
    "+": "-", "-": "+", "*": "+ **", "/": "// *", "//": "/", "%": "//", "**": "*", "&": "|", "|": "&", "<<": ">>",
    ">>": "<<", "and": "or", "or": "and", "<": "<= >", "<=": "< >=", ">": ">= <", ">=": "> <=", "==": "!=", "!=": "==",
}  # fmt: skip


@kind("wrong operator", 9)
def wrong_operator(place: Place, node: ast.AST) -> Found:
    if isinstance(node, ast.BoolOp):
        sign, values = SIGNS[type(node.op)], node.values
        yield node, f" {MISTAKEN[sign]} ".join(place.operand(value) for value in values)
    elif isinstance(node, (ast.BinOp, ast.Compare)):
        left, right = (node.left, node.right) if isinstance(node, ast.BinOp) else (node.left, node.comparators[0])
        sign = SIGNS.get(type(node.op) if isinstance(node, ast.BinOp) else type(node.ops[0]), "")
        negated = {"is": ["is not"], "is not": ["is"], "in": ["not in"], "not in": ["in"]}.get(sign)
        if isinstance(node, ast.Compare) and len(node.ops) > 1:
            return
        for wrong in negated or MISTAKEN.get(sign, "").split():
            yield node, f"{place.operand(left)} {wrong} {place.operand(right)}"


@kind("wrong caller", 8)
def wrong_caller(place: Place, node: ast.AST) -> Found:
    if isinstance(node, ast.Name) and is_read(node) and isinstance(place.up(node), ast.Attribute):
        above = place.up(node)
        if above is not None and place.field(above) == "func" and node.id in place.bound:
            yield from ((node, name) for name in place.names_before(node.lineno) if name != node.id)


@kind("missing part of an or", 5)
def missing_or(place: Place, node: ast.AST) -> Found:
    yield from without_part(place, node, ast.Or)


@kind("wrong keyword", 6)
def wrong_keyword(place: Place, node: ast.AST) -> Found:
    if not isinstance(node, ast.Call):
        return
    name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
    for used in node.keywords:
        for accepted in place.signatures(name):
            for other in (*accepted.args, *accepted.kwonlyargs):
                if used.arg and other.arg not in {"self", "cls", *(each.arg for each in node.keywords)}:
                    yield used, f"{other.arg}={place.of(used.value)}"


@kind("negated", 4)
def negated(place: Place, node: ast.AST) -> Found:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub)):
        if not isinstance(node.operand, ast.Constant):
            yield node, place.of(node.operand)
    elif place.field(node) == "test" and isinstance(node, (ast.Name, ast.Call, ast.Attribute)):
        yield node, f"not {place.of(node)}"


@kind("swapped arguments", 2)
def swapped_arguments(place: Place, node: ast.AST) -> Found:
    if isinstance(node, ast.Call) and not any(isinstance(each, ast.Starred) for each in node.args):
        for at in range(len(node.args) - 1):
            first, second = node.args[at : at + 2]
            yield node, call_text(place, node, [*node.args[:at], second, first, *node.args[at + 2 :], *node.keywords])


@kind("wrong type of constant", 2)
def wrong_constant_type(place: Place, node: ast.AST) -> Found:
    if isinstance(node, ast.Constant) and not isinstance(node.value, bool):
        if isinstance(node.value, int):
            yield node, f'"{node.value}"'
        if node.value in (0, ""):
            yield node, "None"
        if node.value is None:
            yield from ((node, text) for text in ("0", '""', "False"))
    elif isinstance(node, ast.List) and not node.elts and is_read(node):
        yield from ((node, text) for text in ("()", "None", "{}"))


# --- what the list of single-statement patterns leaves out


@kind("wrong string", 25)
def wrong_string(place: Place, node: ast.AST) -> Found:
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and "\n" not in node.value:
        value = node.value
        others = {each.value for each in place.nodes if isinstance(each, ast.Constant) and isinstance(each.value, str)}
        slips = {value[:-1], value[1:], value + " ", value.swapcase(), value[:1] + value[2:]} if value else {" "}
        slips |= {each for each in others if len(each) < 20}
        yield from ((node, repr(each)) for each in sorted(slips - {value}))


@kind("missing guard", 30)
def missing_guard(place: Place, node: ast.AST) -> Found:
    if not isinstance(node, ast.If) or node.orelse or len(node.body) > 1 or place.field(node) == "orelse":
        return
    if isinstance(node.body[0], (ast.Return, ast.Raise, ast.Continue, ast.Break)):
        yield node, ""


@kind("missing statement", 30)
def missing_statement(place: Place, node: ast.AST) -> Found:
    if isinstance(node, ast.AugAssign) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        yield node, ""
    elif isinstance(node, ast.Assign):
        stored = {each.id for target in node.targets for each in ast.walk(target) if isinstance(each, ast.Name)}
        if not stored or all(place.bound.get(name, node.lineno) < node.lineno for name in stored):
            yield node, ""


@kind("missing branch", 10)
def missing_branch(place: Place, node: ast.AST) -> Found:
    if isinstance(node, ast.If) and len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If):
        branch = node.orelse[0]
        if not branch.orelse and len(branch.body) <= 2 and place.program.lines_of(branch):
            yield branch, ""
    elif isinstance(node, ast.IfExp):
        yield node, place.of(node.body)


@kind("wrong return", 12)
def wrong_return(place: Place, node: ast.AST) -> Found:
    if isinstance(node, ast.Return) and node.value is not None:
        if not isinstance(node.value, (ast.Name, ast.Constant)):
            yield node, "return"
            yield from ((node, f"return {name}") for name in place.names_before(node.lineno))
        elif isinstance(node.value, ast.Name):
            yield node, "return"


COUSINS = [
    words.split()
    for words in """
    KeyError IndexError LookupError AttributeError
    ValueError TypeError KeyError RuntimeError
    StopIteration IndexError
    OSError ValueError
    NotImplementedError RuntimeError
    AttributeError TypeError
    UnicodeDecodeError UnicodeEncodeError
    ImportError AttributeError
    OverflowError ValueError
    ZeroDivisionError ValueError
    """.strip().splitlines()
]


@kind("wrong exception", 8)
def wrong_exception(place: Place, node: ast.AST) -> Found:
    above = place.up(node)
    raised = isinstance(above, ast.Raise) or (isinstance(place.up(above) if above else None, ast.Raise))
    caught = isinstance(above, ast.ExceptHandler) and place.field(node) == "type"
    if isinstance(node, ast.Name) and (raised or caught):
        yield from ((node, other) for group in COUSINS if node.id in group for other in group if other != node.id)
    elif isinstance(node, ast.Tuple) and caught and len(node.elts) > 1:
        yield from ((node, place.of(each)) for each in node.elts)


@kind("wrong default", 8)
def wrong_default(place: Place, node: ast.AST) -> Found:
    if place.field(node) in ("defaults", "kw_defaults") and isinstance(node, ast.Constant):
        value = node.value
        if isinstance(value, bool):
            yield from ((node, text) for text in (str(not value), "None"))
        elif isinstance(value, int):
            yield from ((node, text) for text in (str(value + 1), str(value - 1), "None"))
        elif isinstance(value, str):
            yield from ((node, text) for text in ("None", repr(value[:-1]), '" "') if text != repr(value))
        elif value is None:
            yield from ((node, text) for text in ("0", '""', "()", "False", "True"))


@kind("wrong slice", 8)
def wrong_slice(place: Place, node: ast.AST) -> Found:
    if not isinstance(node, ast.Slice) or node.step is not None:
        return
    lower, upper = (place.of(end) if end is not None else "" for end in (node.lower, node.upper))
    if lower:
        yield from ((node, text) for text in (f":{upper}", f"{lower} + 1:{upper}"))
    if upper:
        yield from ((node, text) for text in (f"{lower}:", f"{lower}:{upper} - 1", f"{lower}:{upper} + 1"))
    if lower != upper and not (lower and upper):
        yield node, f"{upper}:{lower}"


@kind("misplaced statement", 8)
def misplaced_statement(place: Place, node: ast.AST) -> Found:
    """Two neighbours in the wrong order, or the last line of a block outdented (the text starts with `<`)."""
    above = place.up(node)
    block = getattr(above, place.field(node), None) if above is not None else None
    simple = (ast.Assign, ast.AugAssign, ast.Expr, ast.Return)
    if not isinstance(node, simple) or not isinstance(block, list) or node not in block:
        return
    at = block.index(node)
    if at + 1 < len(block) and isinstance(block[at + 1], simple):
        yield node, "swap"
    if at == len(block) - 1 > 0 and isinstance(above, (ast.For, ast.While, ast.If)) and not above.orelse:
        yield node, "outdent"
    if at == len(block) - 1 and at > 0 and isinstance(block[at - 1], (ast.For, ast.While, ast.If, ast.With)):
        yield node, "indent"


@kind("assignment for update", 4)
def assignment_for_update(place: Place, node: ast.AST) -> Found:
    if isinstance(node, ast.AugAssign):
        yield node, f"{place.of(node.target)} = {place.of(node.value)}"
    elif isinstance(node, ast.Break):
        yield node, "continue"
    elif isinstance(node, ast.Continue):
        yield node, "break"


@kind("falsy for None", 8)
def falsy_for_none(place: Place, node: ast.AST) -> Found:
    if not isinstance(node, ast.Compare) or len(node.ops) > 1 or not isinstance(node.ops[0], (ast.Is, ast.IsNot)):
        return
    if isinstance(node.comparators[0], ast.Constant) and node.comparators[0].value is None:
        yield node, f"not {place.operand(node.left)}" if isinstance(node.ops[0], ast.Is) else place.of(node.left)


def written(text: str) -> str:
    """Return a text of one line, for a table."""
    return re.sub(r"\s+", " ", text).strip()
