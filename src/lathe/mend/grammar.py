"""The chores that plain words can ask for, as patterns; `lathe.mend.intent` matches them whole, letter case aside."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

Arguments: TypeAlias = Callable[[re.Match[str]], tuple[str, ...]]

_QUOTE = "[`'\"]?"
_KINDS = "function|method|class|variable|constant|attribute|field|property|parameter|argument|symbol|name"
_KIND_IS = {"property": "method", "symbol": "", "name": ""}
_TEST = rf"{_QUOTE}(?P<test>[\w./-]+\.py(?:::[^\s`'\"?]+)?|test_\w+(?:\[[^\]]+\])?|(?-i:Test[A-Z])\w*){_QUOTE}"
_PROJECT = "(?:project|package|tree|files?|repo(?:sitory)?|code(?: ?base)?)"
_OUR = "(?:the |this |my |our |all |whole |entire |every |of )*"
_EVERYWHERE = rf"(?: *,? (?:everywhere|(?:throughout|across|in) {_OUR}{_PROJECT}|throughout))?"
_TEXT = "(?:the )?(?:strings|comments|docstrings)"
_WORDS = rf"(?P<words>,? (?:and |also |including )*(?:in )?{_TEXT}(?: (?:and|or) (?:in )?{_TEXT})*(?: too| as well)?)?"
_ALL = "(?:(?:all|any|every|each|the|my|our|this|these|those|of|remaining|existing) +)*"
_FIX = "(?:fix|clear|clean up|clean|resolve|correct|repair|address|get rid of|remove|eliminate)"
_UPGRADE = "(?:upgrade|replace|update|moderni[sz]e|migrate|convert)"
_FINDINGS = "(?:errors?|findings?|issues?|warnings?|problems?|violations?|complaints?|failures?)"
_PLACE = rf"(?: +(?:in|of|for|from) +{_OUR}{_PROJECT})?"
_CODE = rf"{_OUR}(?:python )?(?:sources?(?: code)?|everything|it all|{_PROJECT})"
_PASSED = r"it (?:passed|worked|was (?:green|fine|good)) (?:in|at|on)|(?:with )?good(?: at| is|:)?"
_REF = rf"(?:,? +(?:since|after|{_PASSED}) +{_QUOTE}(?P<ref>[\w./~^@{{}}+-]+){_QUOTE})?"
_FAIL = "(?:fail(?:s|ed|ing)?|break(?:s|ing)?|broken|broke|red)"
_HAPPY = "(?:happy|pass|clean|green)"
_CALLS = "(?:calls?|usages?|uses?)"
_OLD_THINGS = rf"(?:{_CALLS}|functions?|apis?|api calls?|names?|code|things|imports?|stuff|aliases|{_FINDINGS})"
_ASKED = "(?:explain |tell me |show me )?"
_DOES = "(?:(?:does|do|did|is|are) )?"


def _symbol(name: str) -> str:
    return rf"{_QUOTE}(?P<{name}>[A-Za-z_][\w.]*)(?:\(\))?{_QUOTE}"


def _file(name: str) -> str:
    return rf"{_QUOTE}(?P<{name}>[\w./-]+\.py){_QUOTE}"


def _chore(*argv: str) -> Arguments:
    return lambda _: argv


def _rename(match: re.Match[str]) -> tuple[str, ...]:
    parts = match.groupdict()
    kind = (parts["kind"] or parts["kind2"] or "").lower()
    kind = _KIND_IS.get(kind, kind)
    argv = ["rename", parts["old"], parts["new"]]
    argv += ["--kind", kind] if kind else []
    argv += ["--file", parts["file"].removeprefix("./")] if parts["file"] else []
    argv += ["--of", parts["of"]] if parts["of"] else []
    return (*argv, "--words") if parts["words"] else tuple(argv)


def _move(match: re.Match[str]) -> tuple[str, ...]:
    origin = ("--from", match["origin"]) if match["origin"] else ()
    return ("move", match["name"], match["target"], *origin)


def _bisect(match: re.Match[str]) -> tuple[str, ...]:
    ref = match["ref"]
    return ("bisect", match["test"], *(("--good", ref) if ref else ()))


def _upgrade(match: re.Match[str]) -> tuple[str, ...]:
    return ("upgrade", match["name"])


def _why(match: re.Match[str]) -> tuple[str, ...]:
    return ("why", match["test"])


_OF_FILE = rf" (?:of|in|from) (?:the )?(?:file |module )?{_file('file')}"
_OF_SYMBOL = rf" (?:of|in|from|on) (?:the )?(?:function |method |class )?{_symbol('of')}"

CHORES: tuple[tuple[str, Arguments], ...] = (
    (
        rf"(?:rename|change the name of) (?:the )?(?:(?P<kind>{_KINDS}) )?{_symbol('old')}(?: (?P<kind2>{_KINDS}))?"
        rf"(?:{_OF_FILE}|{_OF_SYMBOL})? (?:to|into|as|->|=>) {_symbol('new')}{_EVERYWHERE}{_WORDS}",
        _rename,
    ),
    (
        rf"move (?:the )?(?:(?:{_KINDS}) )?{_symbol('name')}(?: (?:out of|from) {_file('origin')})?"
        rf" (?:in)?to {_file('target')}",
        _move,
    ),
    (rf"(?:sort|order|organi[sz]e|reorder|isort) {_ALL}imports{_PLACE}", _chore("lint", "imports")),
    (rf"{_FIX} {_ALL}(?:import (?:order|sorting)|unsorted imports){_PLACE}", _chore("lint", "imports")),
    (
        rf"(?:{_FIX}|delete|drop) {_ALL}(?:unused|unneeded|superfluous) imports{_PLACE}",
        _chore("lint", "unused-imports"),
    ),
    (rf"(?:format|reformat|auto-?format) {_CODE}(?: with ruff)?|run ruff format", _chore("lint", "format")),
    (rf"{_FIX} {_ALL}(?:code )?format(?:ting)?(?: {_FINDINGS})?{_PLACE}", _chore("lint", "format")),
    (
        rf"{_FIX} {_ALL}(?:lint(?:er|ing)?|ruff|flake8|pyflakes|pycodestyle|style)(?:'s)?(?: {_FINDINGS})?{_PLACE}",
        _chore("lint"),
    ),
    (rf"lint {_CODE}|run ruff(?: check)?(?: --fix)?|make (?:ruff|the linter) {_HAPPY}", _chore("lint")),
    (
        rf"{_FIX} {_ALL}(?:type(?:[ -]?check(?:er|ing)?)?|typing|mypy|pyright|annotation)(?:'s)? {_FINDINGS}{_PLACE}",
        _chore("types"),
    ),
    (rf"make (?:mypy|pyright|the type ?checker) {_HAPPY}|(?:fix|run) (?:mypy|pyright)", _chore("types")),
    (rf"(?:{_UPGRADE}|{_FIX}) {_ALL}deprecat(?:ed|ion)(?: {_OLD_THINGS})?{_PLACE}", _chore("upgrade")),
    (rf"{_UPGRADE} {_ALL}deprecated {_symbol('name')}(?: {_CALLS})?", _upgrade),
    (rf"{_UPGRADE} {_ALL}{_symbol('name')} {_CALLS}", _upgrade),
    (
        r"(?:(?:find|show|tell me|get|identify|determine) )?(?:me )?(?:(?:the|which|what) )?(?:commit|change|revision)"
        r"(?: (?:that|which))? (?:broke|breaks|introduced the failure (?:of|in)|made|caused)(?: the)?(?: test)?"
        rf" {_TEST}(?: (?:to )?{_FAIL})?{_REF}",
        _bisect,
    ),
    (rf"(?:git )?bisect(?: the)?(?: test| failure of| regression (?:in|of))? {_TEST}{_REF}", _bisect),
    (
        rf"(?:when|since when) (?:did|has|does|is)(?: the)?(?: test)? {_TEST}"
        rf" (?:start(?:ed)? (?:to )?|been |begin (?:to )?)?{_FAIL}{_REF}",
        _bisect,
    ),
    (rf"{_ASKED}(?:why|where) {_DOES}(?:the )?(?:failing )?(?:test )?{_TEST} {_FAIL}", _why),
    (
        rf"{_ASKED}why {_DOES}(?:this |these |the |my )?(?:failing )?(?:tests?|suite|test suite|build) {_FAIL}",
        _chore("why"),
    ),
    (
        r"(?:find|locate|locali[sz]e|show me|where is|where's|where are) (?:the )?(?:bugs?|faults?)",
        _chore("why"),
    ),
)
