"""Texts: separators, placeholders, prefixes, escapes, format specifications; bytes for text and text for bytes."""

from __future__ import annotations

import ast
import difflib
import itertools
import re
from collections.abc import Iterator

from lathe.mend.operators.registry import Edit, Site, operator

_SEPARATORS = (" ", ",", ", ", "", "\n", ";", "\t", "|", ":", ": ", "/", ".", "-", "_", "=")
_FIELD = re.compile(r"\{([A-Za-z_][\w.]*(?:\[[^\]{}]*\]|\(\))*)(![rsa])?(:[^{}]*)?\}")
_PERCENT = re.compile(r"%[-#0 +]*\d*(?:\.\d+)?[sdrfixg]")
_NUMBERLESS = re.compile(r"\{(?:![rsa])?(?::[^{}]*)?\}")
_UNFINISHED = re.compile(r"(?<!%)(?:%%)*%(?![-#0 +.\d%a-zA-Z(])")
_SPECS = (".2f", ".1f", ".3f", "d", "02d", ",", ".0f", "03d", "x", "s", ".2%", ">10", "<10", "b")
_MAX = 80
_PIECE = re.compile(r"(?i)(rb|br|[rbuf]{0,2})('''|\"\"\"|'|\")(.*)\2\Z", re.DOTALL)


def _is_open(site: Site) -> bool:
    return not isinstance(site.parent, (ast.Expr, ast.JoinedStr, ast.FormattedValue, ast.pattern))


def _written(site: Site, node: ast.expr) -> tuple[str, str, str] | None:
    """Return prefix, quotes and inside of a text that is written as one piece."""
    match = _PIECE.match(site.text(node))
    if match is None:
        return None
    prefix, quote, inside = match.groups()
    return None if re.search(rf"(?<!\\){quote}", inside) else (prefix, quote, inside)


@operator(ast.Constant, kinds=("separator", "wrong text"))
def wording(site: Site) -> Iterator[Edit]:
    """A short text as another separator, another text of the file, in other case, with or without a blank."""
    node = site.node
    assert isinstance(node, ast.Constant)
    value = node.value
    if not isinstance(value, str) or not _is_open(site) or len(value) > _MAX:
        return
    quote = "'" if site.text(node).startswith("'") else '"'
    if value in _SEPARATORS:
        for rank, new in enumerate(text for text in _SEPARATORS if text != value):
            yield from site.replace(node, quoted(new, quote), "separator", 0.1 * rank, level=16)
    for new in site.words.strings:
        if new != value:
            alike = new.lower() == value.lower() or bool(new and (new in value or value in new))
            yield from site.replace(node, quoted(new, quote), "wrong text", -0.0 if alike else 0.3, level=16)
    near = [value.strip(), value.lower(), value.upper(), value.capitalize(), value + " ", " " + value, value + "\n"]
    near += [value + "s", value.removesuffix("s"), value[::-1], value[:-1], value[1:], value.replace("_", "-")]
    near += [value.replace("-", "_"), value.replace(" ", ""), value.replace(" ", "_"), value.title(), value + ".", ""]
    if len(value) > 1:  # what stands on one side only: "_of" as "_of_"
        near += [value + value[0]] if not value[0].isalnum() else []
        near += [value[-1] + value] if not value[-1].isalnum() else []
    for rank, new in enumerate(dict.fromkeys(near)):
        if new != value:
            yield from site.replace(node, quoted(new, quote), "wrong text", 0.1 + 0.03 * rank, level=16)


@operator(ast.Constant, kinds=("misspelt text",))
def misspelt(site: Site) -> Iterator[Edit]:
    """`"widht"` as `"width"`: a text that looks like a name, occurs once, and is like a name that occurs elsewhere."""
    node = site.node
    assert isinstance(node, ast.Constant)
    value = node.value
    if not isinstance(value, str) or len(value) < 3 or not value.isidentifier() or not _is_open(site):
        return
    known = site.words.identifiers
    if known[value] > 1 or value in site.vocabulary.members or value in site.vocabulary.signatures:
        return
    others = [*known, *site.vocabulary.members, *site.vocabulary.signatures]
    quote = "'" if site.text(node).startswith("'") else '"'
    for rank, name in enumerate(difflib.get_close_matches(value, dict.fromkeys(others), n=5, cutoff=0.75)):
        if name != value:
            yield from site.replace(node, quoted(name, quote), "misspelt text", 0.1 * rank, level=16)


@operator(ast.Constant, kinds=("missing f prefix",))
def missing_prefix(site: Site) -> Iterator[Edit]:
    """`"{name}"` as `f"{name}"` where there is such a name."""
    node = site.node
    assert isinstance(node, ast.Constant)
    if not isinstance(node.value, str) or not _is_open(site) or site.text(node)[:1] not in "\"'":
        return
    fields = [match.group(1) for match in _FIELD.finditer(node.value)]
    roots = [re.split(r"\W", field)[0] for field in fields]
    known = {*site.scope.names, *site.words.top, "len", "str", "repr"}
    if fields and all(root in known for root in roots):
        start, _ = site.source.span(node)
        called = isinstance(site.parent, ast.Attribute) and site.parent.attr == "format"
        yield from site.splice(start, start, "f", "missing f prefix", 1.0 if called else 0.0)


@operator(ast.JoinedStr, kinds=("format", "prefix"))
def fields(site: Site) -> Iterator[Edit]:
    """`f"{a}"` as `f"{b}"`, `f"{a!r}"`, `f"{a:.2f}"`, with the `f` gone; two fields exchanged."""
    node = site.node
    assert isinstance(node, ast.JoinedStr)
    start, end = site.source.span(node)
    text = site.source.text[start:end]
    if len(text) > 4 * _MAX or text[:1].lower() != "f":
        return
    found = [match for match in _FIELD.finditer(text) if text[match.start() - 1] != "{"]
    for match in found:
        low, high = start + match.start(), start + match.end()
        expression, conversion, spec = match.group(1), match.group(2) or "", match.group(3) or ""
        for rank, new in enumerate(("", "!r", "!s")):
            if new != conversion:
                yield from site.splice(low, high, f"{{{expression}{new}{spec}}}", "format", 0.2 * rank)
        for rank, other in enumerate(("", *(f":{one}" for one in _SPECS))):
            if other != spec:
                yield from site.splice(low, high, f"{{{expression}{conversion}{other}}}", "format", 0.1 + 0.05 * rank)
        for name in site.names:
            if name != expression:
                yield from site.splice(low, high, f"{{{name}{conversion}{spec}}}", "format", 0.4)
    for first, second in itertools.pairwise(found):
        swapped = second.group(0) + text[first.end() : second.start()] + first.group(0)
        yield from site.splice(start + first.start(), start + second.end(), swapped, "format", 0.1)
    yield from site.splice(start, start + 1, "", "prefix", 0.2)


@operator(ast.JoinedStr, kinds=("wrong text",))
def text_between(site: Site) -> Iterator[Edit]:
    """The blanks and separators between the fields of an f-string."""
    node = site.node
    assert isinstance(node, ast.JoinedStr)
    start, end = site.source.span(node)
    text = site.source.text[start:end]
    found = [match for match in _FIELD.finditer(text) if text[match.start() - 1] != "{"]
    for first, second in itertools.pairwise(found):
        between = text[first.end() : second.start()]
        for rank, new in enumerate((" ", "", ", ", ",", ": ", ":", "-", "/", "_", ".", "\\n", " - ")):
            if new != between:
                yield from site.splice(
                    start + first.end(), start + second.start(), new, "wrong text", 0.1 + 0.04 * rank
                )


@operator(ast.Constant, kinds=("placeholder",))
def placeholder(site: Site) -> Iterator[Edit]:
    """`"%d"` as `"%s"`; `"{} {}"` as `"{1} {0}"`; one placeholder more or less; `{}` as `{:.2f}`."""
    node = site.node
    assert isinstance(node, ast.Constant)
    if not isinstance(node.value, str) or not _is_open(site) or len(node.value) > 4 * _MAX:
        return
    start, end = site.source.span(node)
    text = site.source.text[start:end]
    formatted = isinstance(site.parent, ast.BinOp) and isinstance(site.parent.op, ast.Mod)
    for match in _PERCENT.finditer(text) if formatted or "%" in text else ():
        low, high = start + match.start(), start + match.end()
        for rank, new in enumerate(("%s", "%d", "%r", "%.2f", "%f", "%02d", "%.1f", "%x")):
            yield from site.splice(low, high, new, "placeholder", 0.1 * rank)
    empty = [match.start() for match in re.finditer(r"\{\}", text)]
    for at in empty:
        for rank, new in enumerate(("{!r}", "{:.2f}", "{:d}", "{:02d}", "{:,}", "{0}", "{1}", "{:.1f}")):
            yield from site.splice(start + at, start + at + 2, new, "placeholder", 0.3 + 0.1 * rank)
    for match in _NUMBERLESS.finditer(text):
        for rank, digit in enumerate("0123"):
            at = start + match.start() + 1
            yield from site.splice(at, at, digit, "placeholder", 0.2 + 0.1 * rank)
    for match in _UNFINISHED.finditer(text) if formatted else ():
        for rank, new in enumerate("sdr"):
            yield from site.splice(start + match.end(), start + match.end(), new, "placeholder", 0.1 * rank)
    if len(empty) == 2:
        middle = text[empty[0] + 2 : empty[1]]
        yield from site.splice(start + empty[0], start + empty[1] + 2, f"{{1}}{middle}{{0}}", "placeholder", 0.2)
    for match in re.finditer(r"\{(\d)\}", text):
        for digit in "0123":
            if digit != match.group(1):
                yield from site.splice(start + match.start(1), start + match.end(1), digit, "placeholder", 0.2)


@operator(ast.Constant, kinds=("escape", "prefix"))
def escape(site: Site) -> Iterator[Edit]:
    r"""`"\d"` as `r"\d"`, `r"\n"` as `"\n"`, `"\\n"` as `"\n"`, `"n"` as `"\n"`; quotes inside escaped or exchanged."""
    node = site.node
    assert isinstance(node, ast.Constant)
    if not isinstance(node.value, str) or not _is_open(site):
        return
    written = _written(site, node)
    if written is None:
        return
    prefix, quote, inside = written
    start, end = site.source.span(node)
    if "\\" in inside:
        other = "" if "r" in prefix.lower() else f"r{prefix}"
        yield from site.splice(start, start + len(prefix), other, "escape")
        yield from site.splice(start, end, prefix + quote + inside.replace("\\\\", "\\") + quote, "escape", 0.1)
        if "r" not in prefix.lower():
            yield from site.splice(start, end, prefix + quote + inside.replace("\\", "\\\\") + quote, "escape", 0.2)
    swapped = inside.translate(str.maketrans("'\"", "\"'"))
    if swapped != inside and len(quote) == 1:
        other = '"' if quote == "'" else "'"
        if other not in swapped:
            yield from site.splice(start, end, prefix + other + swapped + other, "escape", 0.3)
    if inside in ("n", "t", "r", "0", "/n", "/t"):
        yield from site.splice(start, end, f"{prefix}{quote}\\{inside[-1]}{quote}", "escape")


@operator(ast.Constant, kinds=("escape",))
def pattern(site: Site) -> Iterator[Edit]:
    r"""A regular expression in `re.f(...)`: `.` as `\.`, `*` as `+`, greedy or not, anchored or not."""
    node = site.node
    assert isinstance(node, ast.Constant)
    parent = site.parent
    if (
        not isinstance(node.value, str)
        or not isinstance(parent, ast.Call)
        or not parent.args
        or parent.args[0] is not node
    ):
        return
    owner = getattr(parent.func, "value", None)
    if not (isinstance(owner, ast.Name) and site.words.imports.get(owner.id) == "re"):
        return
    start, end = site.source.span(node)
    text = site.source.text[start:end]
    low, high = re.search(r"['\"]+", text), len(text) - len(re.findall(r"['\"]+\Z", text)[0])
    if low is None:
        return
    for at in range(low.end(), high):
        here, previous = text[at], text[at - 1]
        if here in ".+*?()[]|$^" and previous != "\\":
            yield from site.splice(start + at, start + at, "\\", "escape", 0.3)
        if here in "+*":
            yield from site.splice(start + at, start + at + 1, "*" if here == "+" else "+", "escape", 0.1)
            yield from site.splice(start + at + 1, start + at + 1, "?", "escape", 0.3)
        swaps = {"d": "wD", "w": "dSW", "s": "Sw", "D": "d", "W": "w", "S": "s"}
        for new in swaps.get(here, "") if previous == "\\" else "":
            yield from site.splice(start + at, start + at + 1, new, "escape", 0.3)
    yield from site.splice(start + low.end(), start + low.end(), "^", "escape", 0.3)
    yield from site.splice(start + high, start + high, "$", "escape", 0.2)


@operator(ast.Constant, kinds=("bytes or text",))
def bytes_or_text(site: Site) -> Iterator[Edit]:
    """`"a"` as `b"a"`, `b"a"` as `"a"`; modes of files as `"rb"` and `"r"`."""
    node = site.node
    assert isinstance(node, ast.Constant)
    if not isinstance(node.value, (str, bytes)) or not _is_open(site):
        return
    start, _ = site.source.span(node)
    text = site.text(node)
    if isinstance(node.value, bytes) and text[:1].lower() == "b":
        yield from site.splice(start, start + 1, "", "bytes or text")
    elif isinstance(node.value, str) and text[:1] in "\"'" and node.value.isascii():
        yield from site.splice(start, start, "b", "bytes or text", 0.2)
    modes = ("r", "w", "a", "rb", "wb", "ab", "r+", "x")
    if node.value in modes and isinstance(site.parent, (ast.Call, ast.keyword)):
        for rank, mode in enumerate(modes):
            if mode != node.value:
                yield from site.replace(node, quoted(mode, text[-1]), "bytes or text", 0.1 * rank, level=16)


@operator(ast.Call, kinds=("bytes or text",))
def coding(site: Site) -> Iterator[Edit]:
    """`a.encode()` as `a`; `str(a)` as `a.decode()`; `f(a)` for bytes as `f(a.encode())` is a missing method."""
    node = site.node
    assert isinstance(node, ast.Call)
    if isinstance(node.func, ast.Attribute) and node.func.attr in ("encode", "decode"):
        yield from site.replace(node, site.text(node.func.value), "bytes or text")
    if isinstance(node.func, ast.Name) and node.func.id in ("str", "bytes") and len(node.args) == 1:
        method = "decode" if node.func.id == "str" else "encode"
        if not isinstance(node.args[0], (ast.Starred, ast.GeneratorExp)):
            yield from site.replace(node, f"{site.operand(node.args[0])}.{method}()", "bytes or text", level=16)
    if isinstance(node.func, ast.Attribute) and node.func.attr == "join" and len(node.args) == 1:
        argument = node.args[0]
        if isinstance(argument, (ast.Name, ast.Attribute, ast.Call)):
            yield from site.replace(argument, f"map(str, {site.text(argument)})", "bytes or text", level=16)
        elif isinstance(argument, (ast.ListComp, ast.GeneratorExp)):
            yield from site.replace(argument.elt, f"str({site.text(argument.elt)})", "bytes or text", 0.1, level=16)


def quoted(text: str, quote: str) -> str:
    """Return `text` as a literal, in the quotes asked for where those need no escape."""
    written = repr(text)
    if written[0] != quote and quote not in text and written[0] not in written[1:-1]:
        return quote + written[1:-1] + quote
    return written
