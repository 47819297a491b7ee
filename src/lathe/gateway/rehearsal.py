"""Rehearsal: which of yesterday's requests a change of policy would have answered otherwise."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from lathe.gateway.policy import Decision, Policy
from lathe.gateway.principals import Asked, Principal, Surface

_EXAMPLES = 5


class TrafficRow(NamedTuple):
    """A request as it is kept: when (milliseconds since the epoch), who, and what was asked for."""

    id: str
    at: int
    organisation: str
    project: str
    requested: str
    surface: Surface
    user: str = ""
    key: str = ""
    region: str = ""
    program: str = ""
    engagement: str = ""
    no_fallback: bool = False


class Example(NamedTuple):
    """One request that would be answered otherwise, and in what words."""

    request: str
    project: str
    at: int
    before: str
    after: str


class Change(NamedTuple):
    """Requests that would go from one outcome to another: `serve:MODEL`, `refuse:CODE`."""

    before: str
    after: str
    requests: int
    projects: tuple[str, ...]
    examples: tuple[Example, ...]


class Rehearsal(NamedTuple):
    """What a change of policy does to the traffic; `changes` begin with the most frequent."""

    before: str
    after: str
    requests: int
    changed: int
    changes: tuple[Change, ...]

    @property
    def projects(self) -> tuple[str, ...]:
        """The projects that would notice."""
        return tuple(sorted({project for change in self.changes for project in change.projects}))


def rehearse(old: Policy, new: Policy, traffic: Iterable[TrafficRow], *, at: int | None = None) -> Rehearsal:
    """Return which requests `new` decides otherwise than `old`.

    Every request is judged as of its own time, or with `at` as if it came then: a schedule that opens a model next
    week changes nothing of yesterday. The traffic is read once and not kept.
    """
    requests = changed = 0
    counts: dict[tuple[str, str], int] = {}
    projects: dict[tuple[str, str], set[str]] = {}
    examples: dict[tuple[str, str], list[Example]] = {}
    for row in traffic:
        requests += 1
        who = Principal(row.key, row.organisation, row.project, row.user)
        asked = Asked(
            row.requested,
            row.surface,
            row.at if at is None else at,
            row.region,
            row.program,
            row.engagement,
            row.no_fallback,
        )
        was, will_be = old.decide(who, asked), new.decide(who, asked)
        change = (_outcome(was), _outcome(will_be))
        if change[0] == change[1]:
            continue
        changed += 1
        counts[change] = counts.get(change, 0) + 1
        projects.setdefault(change, set()).add(row.project)
        shown = examples.setdefault(change, [])
        if len(shown) < _EXAMPLES:
            shown.append(Example(row.id, row.project, row.at, _words(was), _words(will_be)))
    order = sorted(counts, key=lambda change: (-counts[change], change))
    changes = tuple(
        Change(*change, counts[change], tuple(sorted(projects[change])), tuple(examples[change])) for change in order
    )
    return Rehearsal(old.hash, new.hash, requests, changed, changes)


def _outcome(decision: Decision) -> str:
    return f"serve:{decision.model}" if decision.outcome == "serve" else f"refuse:{decision.code}"


def _words(decision: Decision) -> str:
    by = f" by {decision.clause}"
    return decision.message or f"{decision.model} is served{by}, with the tier {decision.tier}."
