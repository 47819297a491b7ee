"""The monitor of acts: a command line held against Sigma rules, indicators and malicious packages before it runs.

A text without any of the words that a rule needs is not read as shell at all: that is most of them, and reading costs
more than all rules. What a shell would put together at run time, out of variables that come from elsewhere or out of
what a program prints, no rule sees; the sandbox is the boundary, this is advice.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from lathe.guard.acts.events import Events, plain, started_with
from lathe.guard.acts.index import RuleIndex, names_in
from lathe.guard.acts.installs import PROGRAMS, installed
from lathe.guard.acts.sigma import Rule, read_rule
from lathe.guard.acts.workspace import FileAt, Named, named_in_files, workspace_reader
from lathe.guard.findings import Finding, Provenance, Span
from lathe.guard.indicators import Indicator, normal_url
from lathe.guard.shell_run import Context, Reading, Run, follow
from lathe.guard.shell_words import UNKNOWN

if TYPE_CHECKING:
    from lathe.guard.targets import Ground

RULES = Path(__file__).parent / "rules"
OWN_CONFIDENCE = 0.8
OTHERS_CONFIDENCE = 0.5
"""How far a rule is trusted: one of others makes a doubt and never decides, for nobody here measured it."""
NOTED = 0.45
"""The most that a single rule of others below `high` scores. Sigma's specification has `medium` reviewed now and then,
and only from `high` on somebody alerted; two such rules at once are worth a doubt all the same."""
_BY_TACTIC = {
    "credential-access": "credential.theft",
    "exfiltration": "data.exfiltrate",
    "impact": "systems.destroy",
    "discovery": "assess.own",
    "reconnaissance": "assess.own",
    "collection": "data.exfiltrate",
}
_ELSE = "offence.framework"
_REPORTED = "agent.overreach"
"""The clause of a hit on a report: nobody asked the agent to fetch what is reported as malicious."""
_BRACED = re.compile(r"\{[^{}\s,]*,[^{}\s]*\}")
_DECODERS = ("base64", "base32", "xxd")
_NAME = r"(?:[a-z0-9_](?:[a-z0-9_-]*[a-z0-9])?\.)+[a-z][a-z0-9-]*[a-z0-9]"
_URL = re.compile(r"(?:https?|ftp|wss?)://[^\s'\"<>|;&`()]+", re.IGNORECASE)
_DOMAIN = re.compile(rf"(?<![\w.-]){_NAME}(?![\w-])", re.IGNORECASE)
_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.])")
_IPV6 = re.compile(r"(?<![\w:.])(?=[0-9a-f:]*::?[0-9a-f:]*:)[0-9a-f:]{3,39}(?![\w:.])", re.IGNORECASE)
_HASH = re.compile(r"(?<![\w])(?:[0-9a-f]{128}|[0-9a-f]{64}|[0-9a-f]{40}|[0-9a-f]{32})(?![\w])", re.IGNORECASE)


class ActMonitor:
    """Rules and indicators, ready to look with."""

    def __init__(
        self,
        rules: Sequence[Rule],
        indicators: Iterable[Indicator] = (),
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.rules = tuple(rules)
        self._now = now
        self._index = RuleIndex(rules)
        shells = [rule for rule in rules if rule.programs is None or "bash" in rule.programs]
        self._shells = RuleIndex([rule for rule in shells if rule.category == "process_creation"])
        self._known: dict[tuple[str, str], list[Indicator]] = {}
        self._networks: list[tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, Indicator]] = []
        for one in indicators:
            if one.kind == "network":
                self._networks.append((ipaddress.ip_network(one.value), one))
            else:
                self._known.setdefault((one.kind, one.value), []).append(one)
        self._kinds = {kind for kind, _ in self._known}
        plain = (value for kind, value in self._known if kind in ("domain", "ipv4", "hash"))
        self._words = frozenset(value.encode() for value in plain)

    def look(
        self,
        command: str,
        ground: Ground | None = None,
        cwd: str = "/",
        *,
        part: str = "",
        provenance: Provenance = "model",
        reading: Reading | None = None,
        file_at: FileAt | None = None,
    ) -> list[Finding]:
        """Return what is found in a line of shell that would run in `cwd`; never raises.

        `part` names the item in spans, which count the letters of `command`. `reading` is the line as `follow` reads
        it, where the caller has that already. `file_at` reads the files that a command installs from; without it
        those below the roots of `ground` are read.
        """
        spot = _Spot(part, provenance, command)
        found = self._reported(spot) if self._kinds - {"package"} or self._networks else []
        hits: dict[int, Rule] = {}
        if "\n" not in command:
            event = started_with(command)
            hits = {id(rule): rule for rule in self._shells.worth(event.raw["CommandLine"]) if rule.check(event)}
        home = ground.home if ground is not None else "/root"
        spelled = may_spell(command)
        around = f"{cwd}\n{home}\n/tmp/" if "mktemp" in command else f"{cwd}\n{home}"
        rules = self.rules if spelled else self._index.worth(f"{command}\n{around}")
        packages = "package" in self._kinds and _names_installer(command)
        named: list[Named] = []
        if rules or packages:
            if reading is None:
                reading = follow(command, Context(cwd, {"HOME": home, "PWD": cwd}, cwd))
            events = Events(reading)
            for rule in self._index.worth(events.text()) if spelled else rules:
                if id(rule) not in hits and any(map(rule.check, events.of(rule.category, rule.programs))):
                    hits[id(rule)] = rule
            if packages:
                if file_at is None and ground is not None:
                    file_at = workspace_reader(ground)
                named = [one for run in reading.runs for one in _packages(run, file_at)]
        found += _by_rules(list(hits.values()), spot)
        for one in named:
            found += self._by_package(one, spot)
        return found

    def explain(self, kind: str, value: str) -> list[Indicator]:
        """Return what is known of a value, what has expired too."""
        known = list(self._known.get((kind, value), ()))
        if kind in ("ipv4", "ipv6"):
            known += [one for network, one in self._networks if ipaddress.ip_address(value) in network]
        return known

    def _reported(self, spot: _Spot) -> list[Finding]:
        found: dict[tuple[str, str], Finding] = {}
        if not self._may_be_reported(spot.command):
            return []
        now = self._now()
        for kind, value, start, end in observables(spot.command):
            for one in self.explain(kind, value) if kind in self._kinds or self._networks else ():
                if one.holds(now) and (one.source, one.id) not in found:
                    found[one.source, one.id] = _by_report(one, spot.span(start, end), 0.9, value, now)
        return list(found.values())

    def _may_be_reported(self, text: str) -> bool:
        """Tell cheaply whether the text may name a known value: most texts name none."""
        return (
            not self._words.isdisjoint(names_in(text))
            or ("url" in self._kinds and any(("url", normal_url(one)) in self._known for one in _URL.findall(text)))
            or (bool(self._networks) and _IPV4.search(text) is not None)
            or ((bool(self._networks) or "ipv6" in self._kinds) and text.count(":") > 1 and bool(_IPV6.search(text)))
        )

    def _by_package(self, named: Named, spot: _Spot) -> list[Finding]:
        found, now, package = [], self._now(), named.package
        for one in self._known.get(("package", package.key), ()):
            open_version = not package.version and bool(one.versions)
            if not one.holds(now) or (package.version and one.versions and package.version not in one.versions):
                continue
            at = max(spot.command.find(package.name), 0) if not named.path else 0
            end = len(spot.command) if named.path else at + len(package.name)
            finding = _by_report(one, spot.span(at, end), 0.6 if open_version else 0.95, package.key, now)
            if named.path:
                why = f"{named.path} names {finding.why}"
                finding = replace(finding, why=why, evidence={**finding.evidence, "file": named.path})
            found.append(finding)
        return found


def _packages(run: Run, file_at: FileAt | None) -> list[Named]:
    """Return what a command would install: what it names, and what the files name that it installs from."""
    words = tuple(map(plain, run.words))
    found = [Named(package, "") for package in installed(words)]
    if file_at is not None and not run.elsewhere and UNKNOWN not in run.cwd:
        found += named_in_files(words, run.cwd, file_at)
    return found


class _Spot:
    def __init__(self, part: str, provenance: Provenance, command: str) -> None:
        self.part, self.provenance, self.command = part, provenance, command

    def span(self, start: int, end: int) -> Span:
        return Span(self.part, start, end, self.provenance)


@lru_cache(maxsize=1)
def shipped_rules() -> tuple[Rule, ...]:
    """Return the rules that come with the package."""
    return tuple(read_rule(path) for path in sorted(RULES.glob("*.yml")))


def observables(text: str) -> list[tuple[str, str, int, int]]:
    """Return what a text names that indicators may be about: kind, value in the form that compares, and where."""
    found: list[tuple[str, str, int, int]] = []
    if "://" in text:
        found += [("url", normal_url(match[0]), *match.span()) for match in _URL.finditer(text)]
    if "." in text:
        found += [("domain", match[0].lower(), *match.span()) for match in _DOMAIN.finditer(text)]
        found += [("ipv4", match[0], *match.span()) for match in _IPV4.finditer(text) if _address(match[0])]
    for match in _IPV6.finditer(text) if text.count(":") > 1 else ():
        address = _address(match[0])
        if address is not None:
            found.append(("ipv6", address, *match.span()))
    found += [("hash", match[0].lower(), *match.span()) for match in _HASH.finditer(text)]
    return found


def _address(text: str) -> str | None:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None


def may_spell(command: str) -> bool:
    """Tell whether a word of the line may come out otherwise than it is written: braces, `$'…'`, hidden texts."""
    return (
        "$'" in command
        or ("{" in command and "," in command and any(_joined(command, one) for one in _BRACED.finditer(command)))
        or any(name in command for name in _DECODERS)
    )


def _joined(command: str, braces: re.Match[str]) -> bool:
    """Tell whether braces are a part of a longer word, as in `/etc/{a,b}`; data such as JSON stand alone."""
    before, after = command[max(braces.start() - 1, 0) : braces.start()], command[braces.end() : braces.end() + 1]
    return any(letter.isalnum() or letter in ("/", "_") for letter in (before, after) if letter)


def _names_installer(command: str) -> bool:
    return any(word in command for word in PROGRAMS)


def _by_rules(hits: Sequence[Rule], spot: _Spot) -> Iterator[Finding]:
    middling = sum(rule.level == "medium" and not _own(rule) for rule in hits)
    for rule in hits:
        alone = middling < 2 and rule.level == "medium" and not _own(rule)
        yield Finding(
            monitor="acts",
            clause=rule.clause or _clause_of(rule),
            score=min(rule.score, NOTED) if alone else rule.score,
            spans=(spot.span(0, len(spot.command)),),
            why=f"It matches the rule {rule.title!r} ({rule.level}).",
            confidence=OWN_CONFIDENCE if _own(rule) else OTHERS_CONFIDENCE,
            evidence={"rule": rule.id, "level": rule.level, "tags": list(rule.tags), "source": rule.source},
        )


def _own(rule: Rule) -> bool:
    return rule.source.startswith(str(RULES))


def _clause_of(rule: Rule) -> str:
    tactics = (tag.removeprefix("attack.").replace("_", "-") for tag in rule.tags)
    return next((_BY_TACTIC[name] for name in tactics if name in _BY_TACTIC), _ELSE)


def _by_report(one: Indicator, span: Span, score: float, seen: str, now: datetime) -> Finding:
    trust = one.trust(now)
    until = f" until {one.end:%Y-%m-%d}" if one.end else ""
    what = f" as {one.name!r}" if one.name else ""
    return Finding(
        monitor="intel",
        clause=_REPORTED,
        score=score,
        spans=(span,),
        why=f"{seen} is reported by {one.source} ({one.id}){what}, with confidence {trust} of 100{until}.",
        confidence=trust / 100,
        evidence={"indicator": one.id, "kind": one.kind, "value": one.value, "source": one.source, "targets": [seen]},
    )
