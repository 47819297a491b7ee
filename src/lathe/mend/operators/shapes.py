"""What kind of value a name holds, guessed from how it is bound and used: a fix is more likely to be of the same."""

from __future__ import annotations

import ast
from collections.abc import Iterable

_CALLS = {
    "number": (
        "len", "int", "abs", "sum", "round", "ord", "float", "pow", "count", "find", "index", "sqrt", "bit_length",
    ),
    "text": (
        "str", "repr", "chr", "input", "hex", "bin", "oct", "format", "join", "strip", "lstrip", "rstrip", "lower",
        "upper", "title", "replace", "capitalize", "decode", "ljust", "rjust", "zfill", "center", "casefold",
    ),
    "list": ("list", "sorted", "range", "split", "splitlines", "readlines", "deque", "reversed", "findall", "rsplit"),
    "dict": ("dict", "defaultdict", "Counter", "OrderedDict"),
    "set": ("set", "frozenset"),
    "tuple": ("tuple",),
    "truth": (
        "bool", "isinstance", "issubclass", "hasattr", "any", "all", "callable", "startswith", "endswith", "isdigit",
        "isalpha", "isalnum", "isupper", "islower", "isspace", "issubset", "exists",
    ),
    "bytes": ("bytes", "bytearray", "encode"),
}  # fmt: skip
_OF_CALL = {name: shape for shape, names in _CALLS.items() for name in names}
_OF_METHOD = {
    **dict.fromkeys(("append", "extend", "insert", "sort", "reverse", "popleft", "appendleft"), "list"),
    **dict.fromkeys(("items", "keys", "values", "get", "setdefault"), "dict"),
    **dict.fromkeys(("add", "discard", "union", "intersection", "difference"), "set"),
    **dict.fromkeys(_CALLS["text"][9:], "text"),
    **dict.fromkeys(("startswith", "endswith", "split", "splitlines", "isdigit", "isalpha", "encode"), "text"),
}
_OF_ANNOTATION = {
    "int": "number", "float": "number", "complex": "number", "str": "text", "bytes": "bytes", "bool": "truth",
    "list": "list", "List": "list", "Sequence": "list", "Iterable": "list", "Iterator": "list", "dict": "dict",
    "Dict": "dict", "Mapping": "dict", "set": "set", "Set": "set", "frozenset": "set", "tuple": "tuple",
    "Tuple": "tuple", "Callable": "function",
}  # fmt: skip
_OVER_LISTS = ("len", "sorted", "enumerate", "reversed")
ANSWERS = {
    "number": ("0", "1", "-1"), "text": ('""',), "list": ("[]",), "dict": ("{}",), "set": ("set()",),
    "truth": ("False", "True"), "tuple": ("()",), "bytes": ('b""',),
}  # fmt: skip


def shape_of(node: ast.expr | None) -> str:
    """Return the shape of a value from how it is written, "" where that does not say."""
    if isinstance(node, ast.Constant):
        value = node.value
        kinds = ((bool, "truth"), ((int, float, complex), "number"), (str, "text"), (bytes, "bytes"))
        return next((shape for kind, shape in kinds if isinstance(value, kind)), "")
    if isinstance(node, ast.BinOp):
        sides = shape_of(node.left) or shape_of(node.right)
        return sides or ("number" if isinstance(node.op, (ast.Sub, ast.FloorDiv, ast.Div, ast.Pow)) else "")
    if isinstance(node, ast.UnaryOp):
        return "truth" if isinstance(node.op, ast.Not) else shape_of(node.operand) or "number"
    if isinstance(node, ast.Call):
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        return _OF_CALL.get(name, "")
    if isinstance(node, ast.IfExp):
        return shape_of(node.body) or shape_of(node.orelse)
    return _BY_NODE.get(type(node), "")


_BY_NODE: dict[type, str] = {
    ast.List: "list", ast.ListComp: "list", ast.Dict: "dict", ast.DictComp: "dict", ast.Set: "set", ast.SetComp: "set",
    ast.Tuple: "tuple", ast.Compare: "truth", ast.JoinedStr: "text", ast.Lambda: "function", ast.GeneratorExp: "list",
}  # fmt: skip


def shape_of_annotation(node: ast.expr | None) -> str:
    """Return the shape that an annotation promises."""
    if isinstance(node, ast.Subscript):
        node = node.value
    name = node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")
    return _OF_ANNOTATION.get(name, name)


def shapes_of_names(nodes: Iterable[ast.AST]) -> dict[str, str]:
    """Return the shapes of the names among these nodes of one function."""
    shapes: dict[str, str] = {}
    weak: dict[str, str] = {}
    for node in nodes:
        if isinstance(node, ast.arg) and node.annotation is not None:
            shapes[node.arg] = shape_of_annotation(node.annotation)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            shapes[node.target.id] = shape_of_annotation(node.annotation)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            shapes.setdefault(node.targets[0].id, shape_of(node.value))
        elif isinstance(node, (ast.For, ast.comprehension)):
            _of_loop(node, shapes)
        else:
            _of_use(node, weak)
    return {**weak, **{name: shape for name, shape in shapes.items() if shape}}


def _of_loop(node: ast.For | ast.comprehension, shapes: dict[str, str]) -> None:
    name = node.iter.func.id if isinstance(node.iter, ast.Call) and isinstance(node.iter.func, ast.Name) else ""
    if name == "range" and isinstance(node.target, ast.Name):
        shapes.setdefault(node.target.id, "number")
    elif name == "enumerate" and isinstance(node.target, ast.Tuple) and isinstance(node.target.elts[0], ast.Name):
        shapes.setdefault(node.target.elts[0].id, "number")


def _of_use(node: ast.AST, weak: dict[str, str]) -> None:
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.attr in _OF_METHOD:
        weak.setdefault(node.value.id, _OF_METHOD[node.attr])
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        weak.setdefault(node.func.id, "function")
        if node.func.id == "range":
            weak.update({argument.id: "number" for argument in node.args if isinstance(argument, ast.Name)})
        elif node.func.id in _OVER_LISTS and node.args and isinstance(node.args[0], ast.Name):
            weak.setdefault(node.args[0].id, "list")
    elif isinstance(node, (ast.BinOp, ast.Compare)):
        sides = [node.left, *(node.comparators if isinstance(node, ast.Compare) else [node.right])]
        known = next((shape for shape in map(shape_of, sides) if shape), "")
        if known:
            weak.update({side.id: known for side in sides if isinstance(side, ast.Name) and side.id not in weak})
