"""What a person's words ask mend for: a small grammar of plain English, matched whole.

A wish is understood only when all of it is: what is left over after a match is never ignored, since half a wish may be
the opposite of it. Words that nearly fit get an answer that says how to ask.
"""

from __future__ import annotations

import re
from typing import TypeAlias

import msgspec

from lathe.mend.grammar import CHORES

SEARCH_S = 60


class Repair(msgspec.Struct, frozen=True):
    """Make failing tests pass: those that `tests` name (files, node ids, names), or all."""

    tests: tuple[str, ...] = ()
    seconds: int = SEARCH_S


class Chore(msgspec.Struct, frozen=True):
    """Run the chore `argv[0]` with the rest as its arguments."""

    argv: tuple[str, ...]
    seconds: int = SEARCH_S


class Unclear(msgspec.Struct, frozen=True):
    """Nearly something that mend can do; `hint` says how to ask for it."""

    hint: str


class Beyond(msgspec.Struct, frozen=True):
    """Nothing that mend can do."""


Intent: TypeAlias = Repair | Chore | Unclear | Beyond

_NEARLY = (
    (
        r"^(?:fix|repair|mend)\b.*\.py\b",
        "Name a failing test, or say `fix the failing tests`: tests tell me what is wrong.",
    ),
    (r"\brename\b", "A rename is asked for as `rename function foo to bar`, `rename parameter x of foo to y`."),
    (r"^move\b.*\b(?:to|into)\b", "A move is asked for as `move foo from a.py to b.py`."),
    (
        r"\bbisect\b|\b(?:commit|change)\b.*\b(?:broke|introduced)\b|\bwhen did\b.*\bfail",
        "Name the test: `find the commit that broke tests/test_x.py::test_y since v1.2`.",
    ),
    (r"\bimports?\b.*$", "About imports I know `sort the imports` and `remove unused imports`."),
    (r"\bdeprecat", "What is deprecated is asked for as `upgrade deprecated calls`."),
    (
        r"\b(?:lint|ruff|format|mypy|pyright)\b",
        "Say `fix the lint errors`, `format the code` or `fix the type errors`.",
    ),
)

_VERB = r"(?:fix|repair|mend|correct|debug|solve|resolve|heal|get|make|turn|bring|find and fix)"
_TESTS = r"(?:tests?|test[ -]?suite|test[ -]?cases?|suite|pytest|unit ?tests?|specs?|ci|build)"
_NAMED = r"(?:[\w./-]+\.py(?:::[^\s,;]+)?|test_\w+(?:\[[^\]]+\])?|Test[A-Z]\w*)"
_REPAIRS = (
    rf"\b{_VERB}\b.*\b(?:failing|broken|red|failed)\b.*\b{_TESTS}\b",
    rf"\b{_VERB}\b.*\b(?:{_TESTS}|named)\b.*\b(?:pass(?:es|ing)?|green|work(?:ing)?|succeed|again|failures?)\b",
    rf"\b(?:fix|repair|mend)\b.*\b(?:{_TESTS}|named)\b",
    rf"\b(?:{_TESTS}|named)\b.*\b(?:fails?|failing|broken|red)\b.*\b(?:fix|repair|mend|correct)\b",
    rf"\b(?:fix|repair|mend|correct)\b.*\b(?:bugs?|faults?|failures?|regressions?)\b.*\b{_TESTS}\b",
    r"^\W*(?:fix|repair|mend)\b(?:\W+(?:the|this|these|all|my|it|code|bugs?|project|repo(?:sitory)?))*\W*$",
    r"^\W*make (?:it|everything|all) (?:pass|green)\W*$",
)
# Whoever wants all tests to pass names some to say which fail, and not to have the others left aside.
_ALL = re.compile(
    rf"\b(?:all|every)\b(?: of)?(?: the| my| our| these)? {_TESTS} (?:pass(?:es)?|succeeds?|works?|(?:is|are) green)\b",
    re.IGNORECASE,
)
# A wish that goes beyond repair, or says how to do it, is not half done.
_MORE = re.compile(
    r"\b(?:add(?:s|ing)?|writ(?:e|ing)|implement\w*|creat\w+|generat\w+|delet\w+|remov\w+|skip\w*|disabl\w+|rewrit\w+"
    r"|refactor\w*|renam\w+|document\w*|explain\w*|port|migrat\w+|upgrad\w+|translat\w+|deploy\w*|commit\w*"
    r"|push\w*|mov(?:e|ing)|format\w*|lint\w*|sort\w*|why|when|which|replac\w+|mypy|pyright|mock\w*|using|via"
    r"|instead|by)\b"
)
_NEGATED = re.compile(r",?\s*(?:and |but )?\b(?:do not|don't|dont|never|without)\b[^.;\n]*")
_KEPT_ANYWAY = re.compile(
    r"(?:do not|don't|dont|never|without) (?:chang|touch|modif|edit|alter|delet|remov|skip|break|weaken|disabl)\w* "
    r"(?:the |any |of |other |my |our |existing |passing )*(?:tests?(?: files?| suite)?|suite|anything else|others?)"
    r"\W*$"
)
_POLITE = re.compile(
    r"^(?:(?:please|hey|hi|hello|ok(?:ay)?|now|then|kindly|just|mend[,:])(?![\w-])[ ,:!]*"
    r"|(?:can|could|would|will) you\b *|i(?:'d| would) like (?:you )?to |i (?:want|need) (?:you )?to "
    r"|(?:let us|let's) |go ahead and |try to |help me )+",
    re.IGNORECASE,
)
_THANKS = re.compile(r"[\s,.!?;]*(?:\b(?:please|thanks|thank you|for me|now|cheers)\b[\s,.!?;]*)*$", re.IGNORECASE)
_TIME = re.compile(
    r",?\s*\b(?:with)?(?:in|for|at most|up to|taking|spend(?:ing)?)(?: at most| up to)? (?P<count>\d+) ?"
    r"(?P<unit>s|secs?|seconds?|m|mins?|minutes?|h|hours?)\b(?! of)",
    re.IGNORECASE,
)
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_SEAM = re.compile(r"(?:,? and then |,? then |; *|\. +|, and | and (?=[a-z]+ ))", re.IGNORECASE)


def read(text: str) -> Intent:
    """Return what `text` asks for."""
    words, seconds = _timed(" ".join(text.replace("’", "'").replace("“", '"').replace("”", '"').split()))
    words = _THANKS.sub("", _POLITE.sub("", words))
    found = _chore_in(words, seconds)
    if found is not None:
        return found
    if wants_repair(words):
        return Repair(() if _ALL.search(words) else _named(words), seconds)
    negated = _NEGATED.search(words)
    wish = words[: negated.start()] + words[negated.end() :] if negated else ""
    if negated and (_chore_in(wish, seconds) is not None or wants_repair(wish)):
        return Unclear(f"I cannot promise `{negated[0].strip(' ,')}` there; ask without it, and look at the diff.")
    parts = [part for part in _SEAM.split(words) if part.strip()]
    known = [part for part in parts if _chore_in(_plain(part), seconds) is not None or wants_repair(_plain(part))]
    if len(parts) > 1 and len(known) == len(parts):
        return Unclear("That is more than one thing: ask for them one after the other.")
    if len(parts) > 1 and known:
        return Beyond()
    for pattern, hint in _NEARLY:
        if re.search(pattern, words, re.IGNORECASE) and len(words) < 200:
            return Unclear(hint)
    return Beyond()


def wants_repair(text: str) -> bool:
    """Return whether the words ask to make failing tests pass, and for nothing beyond that."""
    words = " ".join(text.replace("’", "'").split())
    words = re.sub(_NAMED, lambda one: "named" if _is_test(one[0]) else one[0], words).lower()
    negated = _NEGATED.search(words)
    if negated and not _KEPT_ANYWAY.search(negated[0].strip(" ,")):
        return False
    wish = _NEGATED.sub(" ", words)
    return any(re.search(pattern, wish) for pattern in _REPAIRS) and not _MORE.search(wish)


def _chore_in(words: str, seconds: int) -> Chore | None:
    for pattern, argv in CHORES:
        match = re.fullmatch(pattern, words, re.IGNORECASE)
        if match:
            return Chore(argv(match), seconds)
    return None


def _plain(words: str) -> str:
    return _THANKS.sub("", _POLITE.sub("", words.strip()))


def _timed(words: str) -> tuple[str, int]:
    """Return the words without a limit of time, and the limit in seconds."""
    match = _TIME.search(words)
    if match is None:
        return words, SEARCH_S
    seconds = int(match["count"]) * _SECONDS[match["unit"][0].lower()]
    return words[: match.start()] + words[match.end() :], max(1, min(seconds, 24 * 3600))


def _named(words: str) -> tuple[str, ...]:
    """Return the tests that are named: files that are tests by name, node ids, test functions and classes."""
    found = [one.strip("`'\".,:") for one in re.findall(_NAMED, _NEGATED.sub(" ", words)) if _is_test(one)]
    return tuple(dict.fromkeys(found))


def _is_test(name: str) -> bool:
    file = name.strip("`'\".,:").partition("::")[0].rpartition("/")[2]
    return not file.endswith(".py") or file.startswith("test_") or file.endswith("_test.py") or "::" in name
