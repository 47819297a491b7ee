"""Rules that tell secrets, in the configuration format of gitleaks (https://github.com/gitleaks/gitleaks#configuration).

What speaks of paths and commits is left aside, for a tool's output has neither: a rule counts whatever its `path`, one
with a path alone is left out, and so is `required`. As in gitleaks, keys are read in any case.
"""

from __future__ import annotations

import functools
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import msgspec

from lathe.guard.go_regex import NoTranslation, python_pattern
from lathe.protocol.errors import ConfigError

SHIPPED = Path(__file__).parent / "secrets.toml"
_DEEPEST = 2


class _Allow(msgspec.Struct, frozen=True):
    condition: str = ""
    regextarget: str = ""
    regexes: tuple[str, ...] = ()
    stopwords: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    commits: tuple[str, ...] = ()
    targetrules: tuple[str, ...] = ()


class _Rule(msgspec.Struct, frozen=True):
    id: str = ""
    regex: str = ""
    path: str = ""
    secretgroup: int = 0
    entropy: float = 0.0
    keywords: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    skipreport: bool = False
    allowlist: _Allow | None = None
    allowlists: tuple[_Allow, ...] = ()


class _Extend(msgspec.Struct, frozen=True):
    path: str = ""
    disabledrules: tuple[str, ...] = ()


class _File(msgspec.Struct, frozen=True):
    rules: tuple[_Rule, ...] = ()
    allowlist: _Allow | None = None
    allowlists: tuple[_Allow, ...] = ()
    extend: _Extend = _Extend()


class Allowlist:
    """What is no secret after all. Expressions are translated when first needed."""

    def __init__(self, regexes: Sequence[str], stopwords: Sequence[str], target: str, *, every: bool) -> None:
        self._regexes = tuple(regexes)
        self._stopwords = tuple(word.lower() for word in stopwords)
        self._target = target
        self._every = every

    @functools.cached_property
    def patterns(self) -> tuple[re.Pattern[str], ...]:
        """The expressions, compiled; raises `NoTranslation`."""
        return tuple(map(_compiled, self._regexes))

    def allows(self, secret: str, match: str, line: str) -> bool:
        """Return whether the find is no secret; `match` is all that the rule matched, `line` where it stands."""
        target = {"match": match, "line": line}.get(self._target, secret)
        checks: list[bool] = []
        if self._regexes:
            checks.append(any(pattern.search(target) for pattern in self.patterns))
        if self._stopwords:
            low = secret.lower()
            checks.append(any(word in low for word in self._stopwords))
        return bool(checks) and (all if self._every else any)(checks)


class Rule:
    """One rule. `local` rules match within a line that holds one of their keywords.

    The keyword of a `run` rule stands at the beginning of 16 letters or digits, or right before them.
    """

    def __init__(self, table: _Rule, allowlists: Sequence[Allowlist], *, shipped: bool) -> None:
        self.id = table.id
        self.kind = _kind(table.id)
        self.regex = table.regex
        self.keywords = tuple(keyword.lower() for keyword in table.keywords)
        self.local = shipped and "multiline" not in table.tags
        self.run = shipped and "run" in table.tags
        self.allowlists = list(allowlists)
        self._group = table.secretgroup
        self._entropy = table.entropy

    @functools.cached_property
    def pattern(self) -> re.Pattern[str]:
        """The expression, compiled; raises `NoTranslation`."""
        pattern = _compiled(self.regex)
        if self._group > pattern.groups:
            raise NoTranslation(f"secretGroup is {self._group}, and there are {pattern.groups} groups")
        return pattern

    def secret_of(self, match: re.Match[str], allowed: Iterable[Allowlist]) -> tuple[int, int] | None:
        """Return where the secret stands, None where there is none after all; `allowed` holds beside its own lists."""
        group = self._group or next((number for number, text in enumerate(match.groups(), 1) if text), 0)
        start, end = match.span(group)
        secret = match[group]
        if not secret or (self._entropy and entropy(secret) <= self._entropy):
            return None
        line = ""
        for allowlist in (*self.allowlists, *allowed):
            line = line or _line_of(match)
            if allowlist.allows(secret, match[0], line):
                return None
        return start, end


class RuleSet(NamedTuple):
    """Rules, and what holds for all of them."""

    rules: tuple[Rule, ...]
    allowlists: tuple[Allowlist, ...]


def load_secret_rules(own: Path | None = None) -> RuleSet:
    """Return the shipped rules, and on top those of a person's `own` file: added, or in the place of one by its id.

    Raises `ConfigError` that names the file and the rule. Every expression of the person's file is tried.
    """
    shipped = _read(SHIPPED)
    rules = {table.id: Rule(table, _allowlists(table), shipped=True) for table in shipped.rules}
    everywhere = list(_allowlists(shipped))
    if own is not None:
        _add_own(own, rules, everywhere, depth=0)
    return RuleSet(tuple(rules.values()), tuple(everywhere))


def entropy(text: str) -> float:
    """Return Shannon's entropy of `text` in bits per character."""
    size = len(text)
    return -sum(count / size * math.log2(count / size) for count in Counter(text).values())


def _add_own(path: Path, rules: dict[str, Rule], everywhere: list[Allowlist], depth: int) -> None:
    file = _read(path)
    if file.extend.path and depth < _DEEPEST:
        _add_own(path.parent / Path(file.extend.path).expanduser(), rules, everywhere, depth + 1)
    for disabled in file.extend.disabledrules:
        rules.pop(disabled, None)
    for table in file.rules:
        _add_rule(path, table, rules)
    for allow in _allows(file):
        allowlist = _checked_allowlist(path, "its allowlists", allow)
        if not allow.targetrules:
            everywhere.append(allowlist)
        for target in allow.targetrules:
            if target in rules:
                rules[target].allowlists.append(allowlist)


def _add_rule(path: Path, table: _Rule, rules: dict[str, Rule]) -> None:
    named = f"the rule {table.id}"
    if not table.id:
        _fail(path, "a rule", "it has no id")
    lists = [_checked_allowlist(path, named, allow) for allow in _allows(table)]
    if not table.regex:
        # Without an expression of its own it speaks of a rule that is there, or of files.
        if table.id in rules:
            rules[table.id].allowlists += lists
        return
    rule = Rule(table, lists, shipped=False)
    try:
        _ = rule.pattern
    except NoTranslation as error:
        _fail(path, named, str(error))
    rules.pop(table.id, None)
    if not table.skipreport:
        rules[table.id] = rule


def _allows(table: _Rule | _File) -> tuple[_Allow, ...]:
    return (table.allowlist, *table.allowlists) if table.allowlist is not None else table.allowlists


def _allowlists(table: _Rule | _File) -> list[Allowlist]:
    return [_allowlist(allow) for allow in _allows(table)]


def _allowlist(allow: _Allow) -> Allowlist:
    every = allow.condition.upper() in ("AND", "&&")
    if every and (allow.paths or allow.commits):
        return Allowlist((), (), "", every=True)  # asks for a path, too, and there is none
    return Allowlist(allow.regexes, allow.stopwords, allow.regextarget, every=every)


def _checked_allowlist(path: Path, named: str, allow: _Allow) -> Allowlist:
    if allow.condition.upper() not in ("", "AND", "&&", "OR", "||"):
        _fail(path, named, f"condition is {allow.condition!r}, and may be AND or OR")
    if allow.regextarget not in ("", "secret", "match", "line"):
        _fail(path, named, f"regexTarget is {allow.regextarget!r}, and may be secret, match or line")
    allowlist = _allowlist(allow)
    try:
        _ = allowlist.patterns
    except NoTranslation as error:
        _fail(path, named, str(error))
    return allowlist


def _fail(path: Path, named: str, why: str) -> NoReturn:
    raise ConfigError(f"{path}: {named} can't be used: {why}.", hint="Mend it or take it out.")


def _read(path: Path) -> _File:
    from lathe.config.layers import read_toml

    read = read_toml(path)
    if read is None:
        raise ConfigError(f"The secret_rules {path} are not there.", hint="Name a file in the format of gitleaks.")
    try:
        return msgspec.convert(_lower(read[0]), _File)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path} is not in the format of gitleaks: {error}.") from None


def _lower(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key.lower(): _lower(below) for key, below in value.items()}
    return [_lower(one) for one in value] if isinstance(value, list) else value


def _compiled(regex: str) -> re.Pattern[str]:
    return re.compile(python_pattern(regex), re.ASCII)


def _line_of(match: re.Match[str]) -> str:
    text, start, end = match.string, *match.span()
    line_end = text.find("\n", end)
    return text[text.rfind("\n", 0, start) + 1 : line_end if line_end >= 0 else len(text)]


def _kind(rule: str) -> str:
    """Return the name of a rule as a part of a placeholder: short, in word characters, with nothing like a digest."""
    kind = re.sub(r"[^a-z0-9]+", "_", rule.lower())[:28].strip("_")
    return "secret" if not kind or re.search(r"_[0-9a-f]{8}", f"_{kind}") else kind
