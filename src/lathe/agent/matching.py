"""What a rule matches: simple commands, one at a time.

Forbid and ask rules match generously: also the program by its path, also behind its global options (`git -C there
push`). Allow rules match literally, and never a command with a word that only the shell will know.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from lathe.agent.verdict import Place
from lathe.config.settings import Position, RuleSpec
from lathe.guard.shell import Analysis, Part
from lathe.guard.wrappers import Words, program_name, without_global_options

_STANDARD = ("/bin/", "/usr/bin/", "/usr/local/bin/", "/opt/homebrew/bin/")


def matches(rule: RuleSpec, part: Part, place: Place, *, literal: bool) -> bool:
    """Tell whether `rule` matches the simple command `part`; `literal` as an allow rule must."""
    if not rule.prefix or not part.words or part.words[0] is None:
        return False
    if literal:
        known = part.known
        return known is not None and _begins(rule, (_bare(known[0]), *known[1:]), place)
    named = (program_name(part.words[0]), *part.words[1:])
    return any(_begins(rule, words, place) for words in {part.words, named, without_global_options(named)})


def first_match(rules: Iterable[RuleSpec], analysis: Analysis, place: Place) -> tuple[RuleSpec, Part] | None:
    """Return the first forbid or ask rule that matches a part, with that part."""
    for rule in rules:
        for part in analysis.parts:
            if matches(rule, part, place, literal=False):
                return rule, part
    return None


def _bare(word: str) -> str:
    """Return the name of a program of the system; any other path stays, for `./git` is not `git`."""
    folder = next((folder for folder in _STANDARD if word.startswith(folder)), "")
    name = word[len(folder) :]
    return name if "/" not in name else word


def _begins(rule: RuleSpec, words: Words, place: Place) -> bool:
    if len(words) < len(rule.prefix):
        return False
    if not all(_is(word, position) for word, position in zip(words, rule.prefix, strict=False)):
        return False
    rest = words[len(rule.prefix) :]
    if not all(any(_is_flag(word, position) for word in rest) for position in rule.flags):
        return False
    return not rule.outside or _leads_out(rest, place)


def _is(word: str | None, position: Position) -> bool:
    return word == position if isinstance(position, str) else word in position


def _is_flag(word: str | None, position: Position) -> bool:
    if word is None:
        return False
    wanted = (position,) if isinstance(position, str) else position
    for flag in wanted:
        if word == flag or word.startswith(f"{flag}="):
            return True
        if re.fullmatch(r"-[A-Za-z0-9]", flag) and re.fullmatch(r"-[A-Za-z0-9]+", word) and flag[1] in word:
            return True
    return False


def _leads_out(operands: Words, place: Place) -> bool:
    paths = [
        None if word is None else re.sub(r"^of=", "", word)
        for word in operands
        if word is None or not word.startswith(("-", "if="))
    ]
    return any(path is None or ".git" in Path(path).parts or not place.holds(path) for path in paths)
