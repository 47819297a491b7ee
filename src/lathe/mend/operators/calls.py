"""Calls: arguments swapped, missing or too many; another receiver; order, lookups and awaiting."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from lathe.mend.operators.registry import Edit, Site, operator

_KEYS = (
    "abs", "len", "str", "str.lower", "lambda entry: entry[0]", "lambda entry: entry[1]", "lambda entry: -entry",
    "lambda entry: -entry[1]", "int", "lambda entry: -entry[0]", "lambda entry: (-entry[1], entry[0])",
    "lambda entry: entry[-1]",
)  # fmt: skip
_COROUTINES = frozenset((
    "sleep", "gather", "wait_for", "wait", "to_thread", "open_connection", "start_server", "drain", "wait_closed",
    "create_subprocess_exec", "create_subprocess_shell", "communicate", "readline", "readexactly", "acquire",
))  # fmt: skip


@operator(ast.Call, kinds=("argument order",))
def argument_order(site: Site) -> Iterator[Edit]:
    """`f(a, b)` as `f(b, a)`."""
    node = site.node
    assert isinstance(node, ast.Call)
    arguments = [argument for argument in node.args if not isinstance(argument, ast.Starred)]
    for index, first in enumerate(arguments):
        for second in arguments[index + 1 :]:
            start, end = site.source.span(first)[0], site.source.span(second)[1]
            middle = site.source.text[site.source.span(first)[1] : site.source.span(second)[0]]
            swapped = f"{site.text(second)}{middle}{site.text(first)}"
            yield from site.splice(start, end, swapped, "argument order", 0.0 if len(arguments) == 2 else 0.2)


@operator(ast.Call, kinds=("argument order",))
def keyword_values(site: Site) -> Iterator[Edit]:
    """`f(x=a, y=b)` as `f(x=b, y=a)`."""
    node = site.node
    assert isinstance(node, ast.Call)
    for index, first in enumerate(node.keywords):
        for second in node.keywords[index + 1 :]:
            if first.arg and second.arg:
                start, end = site.source.span(first.value)[0], site.source.span(second.value)[1]
                middle = site.source.text[site.source.span(first.value)[1] : site.source.span(second.value)[0]]
                swapped = f"{site.text(second.value)}{middle}{site.text(first.value)}"
                yield from site.splice(start, end, swapped, "argument order", 0.3)


@operator(ast.Call, kinds=("swapped operands", "wrong caller"))
def receiver(site: Site) -> Iterator[Edit]:
    """`a.f(b)` as `b.f(a)`; `a.f()` as `c.f()`; `self.f()` as `super().f()`."""
    node = site.node
    assert isinstance(node, ast.Call)
    if not isinstance(node.func, ast.Attribute):
        return
    value, method = node.func.value, node.func.attr
    if len(node.args) == 1 and not isinstance(node.args[0], (ast.Starred, ast.GeneratorExp)) and not node.keywords:
        text = f"{site.operand(node.args[0])}.{method}({site.text(value)})"
        yield from site.replace(node, text, "swapped operands", 0.2)
    if isinstance(value, ast.Name) and value.id == "self":
        yield from site.replace(value, "super()", "wrong caller", 0.3)
    if isinstance(value, ast.Name):
        for name, known in site.words.imports.items():
            if name != value.id and "." not in known:
                yield from site.replace(value, name, "wrong caller", 0.5)


@operator(ast.Call, kinds=("surplus argument",))
def surplus_argument(site: Site) -> Iterator[Edit]:
    """`f(a, b)` as `f(a)`, `f(a, k=b)` as `f(a)`."""
    node, source = site.node, site.source
    assert isinstance(node, ast.Call)
    spans = [source.span(argument) for argument in node.args] + [source.span(keyword) for keyword in node.keywords]
    spans.sort()
    for index, (start, end) in enumerate(spans):
        extra = 0.2 if index < len(node.args) else 0.0
        if index + 1 < len(spans):
            yield from site.splice(start, spans[index + 1][0], "", "surplus argument", extra)
        elif index > 0:
            yield from site.splice(spans[index - 1][1], end, "", "surplus argument", extra)
        else:
            yield from site.splice(start, end, "", "surplus argument", 0.5)


@operator(ast.Call, kinds=("missing argument", "other argument"))
def missing_argument(site: Site) -> Iterator[Edit]:
    """`f(a)` as `f(a, b)` with names of the function, by keyword where the function called is known."""
    node = site.node
    assert isinstance(node, ast.Call)
    if not takes_more(node):
        return
    end, comma = end_of_arguments(site, node)
    given = {keyword.arg for keyword in node.keywords}
    for arguments in site.vocabulary.signatures.get(site.called(), []):
        parameters = [argument.arg for argument in arguments.args if argument.arg not in ("self", "cls")]
        optional = len(arguments.defaults)
        for position, name in enumerate([*parameters, *(argument.arg for argument in arguments.kwonlyargs)]):
            if (
                position < len(node.args)
                or name in given
                or (name not in site.scope.names and position < len(parameters) - optional)
            ):
                continue
            if name in site.scope.names:
                yield from site.splice(end, end, f"{comma}{name}={name}", "missing argument", 0.3)
            if position == len(node.args) and not node.keywords:
                texts = [name] if name in site.scope.names else []
                texts += [f"self.{name}"] if "self" in site.scope.names and name in site.vocabulary.members else []
                for text in texts:
                    yield from site.splice(end, end, f"{comma}{text}", "missing argument")
    yield from _any_argument(site, node, end, comma)


def _any_argument(site: Site, node: ast.Call, end: int, comma: str) -> Iterator[Edit]:
    short = [text for text, tree in site.scope.expressions.items() if isinstance(tree, (ast.Attribute, ast.BinOp))]
    texts = [*site.names, "0", "1", "-1", "True", "False", "None", '""', "2", "10", *short[:8]]
    for rank, text in enumerate(texts):
        extra = 0.4 + min(0.4, 0.02 * rank)
        if not node.keywords:
            yield from site.splice(end, end, f"{comma}{text}", "other argument", extra)
        if node.args or node.keywords:
            start = site.source.span(node.args[0] if node.args else node.keywords[0])[0]
            yield from site.splice(start, start, f"{text}, ", "other argument", extra + 0.2)


def takes_more(node: ast.Call) -> bool:
    """Return whether one may well put a further argument into a call."""
    return len(node.args) <= 4 and not any(isinstance(one, (ast.Starred, ast.GeneratorExp)) for one in node.args)


def end_of_arguments(site: Site, node: ast.Call) -> tuple[int, str]:
    """Return where a further argument goes, and the comma that it needs."""
    end = site.source.span(node)[1] - 1
    parts: list[ast.expr | ast.keyword] = [*node.args, *node.keywords]
    last = max((site.source.span(part)[1] for part in parts), default=-1)
    if last < 0:
        return end, ""
    rest = site.source.text[last:end]
    if "," in rest:
        return last + rest.index(",") + 1, " "
    return last + len(rest) - len(rest.lstrip(")")), ", "


@operator(ast.Call, kinds=("order", "sort key"))
def ordering(site: Site) -> Iterator[Edit]:
    """`sorted(a)` as `sorted(a, reverse=True)` or with a key; a surplus `key` is a surplus argument."""
    node = site.node
    assert isinstance(node, ast.Call)
    called = site.called()
    if called not in ("sorted", "sort", "max", "min"):
        return
    (end, comma), given = end_of_arguments(site, node), {keyword.arg for keyword in node.keywords}
    if called in ("sorted", "sort") and "reverse" not in given:
        yield from site.splice(end, end, f"{comma}reverse=True", "order")
    if "key" not in given:
        own = [name for name in site.words.top if name in site.vocabulary.signatures]
        keys = [*_KEYS, *(name for name in site.names if site.scope.names[name] == "function"), *own[:6]]
        keys += [f"{name}.get" for name in site.names if site.scope.names[name] == "dict"]
        for rank, key in enumerate(keys):
            yield from site.splice(end, end, f"{comma}key={key}", "sort key", 0.05 * rank)
    for keyword in node.keywords:
        if keyword.arg == "key" and isinstance(keyword.value, ast.Lambda) and len(keyword.value.args.args) == 1:
            name, body = keyword.value.args.args[0].arg, keyword.value.body
            for rank, text in enumerate(
                (
                    f"-{site.operand(body)}",
                    f"{name}[0]",
                    f"{name}[1]",
                    name,
                    f"({site.text(body)}, {name})",
                    f"len({name})",
                )
            ):
                yield from site.replace(body, text, "sort key", 0.1 * rank)


@operator(ast.Call, ast.Subscript, kinds=("lookup",))
def lookup(site: Site) -> Iterator[Edit]:
    """`d[k]` as `d.get(k)`, `d.get(k, 0)`; `d.get(k)` as `d[k]`, `d.get(k, 0)`."""
    node = site.node
    if isinstance(node, ast.Subscript):
        if not isinstance(node.ctx, ast.Load) or isinstance(node.slice, (ast.Slice, ast.Tuple)):
            return
        base, key = site.operand(node.value), site.text(node.slice)
        extra = 0.0 if site.scope.names.get(base) == "dict" else 0.3
        if site.scope.names.get(base) not in ("list", "text", "number"):
            for rank, default in enumerate(("", ", 0", ", []", ', ""', ", {}", ", None", ", 1")):
                yield from site.replace(node, f"{base}.get({key}{default})", "lookup", extra + 0.15 * rank, level=16)
        return
    assert isinstance(node, ast.Call)
    if isinstance(node.func, ast.Attribute) and node.func.attr in ("get", "pop") and node.args and not node.keywords:
        base, key = site.text(node.func.value), site.text(node.args[0])
        yield from site.replace(node, f"{base}[{key}]", "lookup", level=16)
        end, comma = end_of_arguments(site, node)
        if len(node.args) == 1:
            for rank, default in enumerate(("0", "[]", '""', "{}", "1", "None", "False", key)):
                yield from site.splice(end, end, f"{comma}{default}", "lookup", 0.1 + 0.1 * rank)


@operator(ast.Call, kinds=("start of counting",))
def counting_from(site: Site) -> Iterator[Edit]:
    """`enumerate(a)` as `enumerate(a, 1)`; `sum(a)` as `sum(a, [])`; `split(a)` as `split(a, 1)`."""
    node = site.node
    assert isinstance(node, ast.Call)
    first = {"enumerate": ("1", "start=1"), "sum": ("[]", "0.0", "()"), "next": ("None",), "count": ("1",)}
    texts = first.get(site.called(), ())
    if texts and len(node.args) == 1 and not node.keywords:
        end, comma = end_of_arguments(site, node)
        for rank, text in enumerate(texts):
            argument = node.args[0]
            if isinstance(argument, ast.GeneratorExp) and not site.text(argument).startswith("("):
                continue
            if isinstance(argument, ast.GeneratorExp):
                yield from site.replace(
                    node, f"{site.text(node.func)}({site.text(argument)}, {text})", "start of counting"
                )
            else:
                yield from site.splice(end, end, f"{comma}{text}", "start of counting", 0.1 * rank)


@operator(ast.Call, kinds=("missing await",))
def missing_await(site: Site) -> Iterator[Edit]:
    """`f()` as `await f()` where `f` is a coroutine of the project or of asyncio."""
    node = site.node
    assert isinstance(node, ast.Call)
    called = site.called()
    if not isinstance(site.function, ast.AsyncFunctionDef) or isinstance(site.parent, ast.Await):
        return
    own = called in site.vocabulary.coroutines
    if own or called in _COROUTINES:
        yield from site.replace(node, f"await {site.text(node)}", "missing await", 0.0 if own else 0.3, level=15)
    elif isinstance(node.func, ast.Attribute):
        yield from site.replace(node, f"await {site.text(node)}", "missing await", 1.2, level=15)


@operator(ast.Await, kinds=("missing await",))
def surplus_await(site: Site) -> Iterator[Edit]:
    """`await a` as `a`."""
    node = site.node
    assert isinstance(node, ast.Await)
    yield from site.replace(node, site.text(node.value), "missing await", 0.6)


@operator(ast.For, ast.With, kinds=("missing await",))
def missing_async(site: Site) -> Iterator[Edit]:
    """`for x in a` as `async for x in a`, `with a` as `async with a` in a coroutine."""
    if isinstance(site.function, ast.AsyncFunctionDef):
        assert isinstance(site.node, (ast.For, ast.With))
        start = site.source.span(site.node)[0]
        yield from site.splice(start, start, "async ", "missing await", 0.8)
