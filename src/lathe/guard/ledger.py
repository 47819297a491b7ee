"""The ledger: what decisions about one actor add up to, over threads, keys and sub-agents, and how it fades.

It is made of decisions and never of topics. It proposes measures about an account and takes none: two people do.
Names are kept as salted hashes, so that a ledger says nothing to who has not the salt.
"""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import msgspec

from lathe.guard.ladder import Measure, Restriction, Standing
from lathe.guard.policy import Step
from lathe.guard.reviewed import content_hash, read_reviewed
from lathe.guard.taxonomy import Level
from lathe.protocol.errors import ConfigError

State: TypeAlias = Literal["clear", "watched", "restricted", "suspended"]
STATES: tuple[State, ...] = ("clear", "watched", "restricted", "suspended")
SHIPPED = Path(__file__).parent / "ledger.yaml"
_HOUR_MS = 3_600_000
_SHOWN = 8


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A decision as it is kept. `at` is milliseconds since the epoch.

    `marks` are salted hashes of whom it is about, `item` the identity of what was judged, `targets` salted hashes of
    targets of others. `thread` is where it was; it says nothing of who it was.
    """

    decision: str
    at: int
    marks: tuple[str, ...]
    step: Step
    clause: str
    level: Level
    ground: str
    item: str = ""
    thread: str = ""
    targets: tuple[str, ...] = ()


class StateRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """At which score a state is entered, with how many different items at least, and below which it is left."""

    enters: float
    leaves: float
    decisions: int


class Mosaic(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A pattern of acts: `different` clauses of these, at one target of others, within so many hours."""

    name: str
    clauses: tuple[str, ...]
    different: int
    within_h: float
    weighs: float


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How decisions add up: data under review."""

    version: int
    half_life_h: float
    weights: dict[Level, dict[Step, float]]
    states: dict[State, StateRule]
    mosaics: tuple[Mosaic, ...] = ()

    @classmethod
    def load(cls, path: Path = SHIPPED) -> Limits:
        """Return the limits of a file; raise `ConfigError` with one sentence."""
        limits = read_reviewed(path, cls)
        if fault := _fault(limits):
            raise ConfigError(f"{path}: {fault}.", code="guard_file")
        return limits

    @property
    def hash(self) -> str:
        """SHA-256, in hexadecimal, of what they say."""
        return content_hash(self)


class Weight(NamedTuple):
    """What counted, as it weighed when it came: a decision, or a mosaic of several."""

    at: int
    weighs: float
    decisions: tuple[str, ...]
    why: str


class Change(NamedTuple):
    """That an actor's state changed, with the sentence that says why and the decisions behind it."""

    at: int
    before: State
    after: State
    score: float
    sentence: str
    decisions: tuple[str, ...]


class Account(NamedTuple):
    """Where an actor stands by the ledger: `state` past "watched" is what is to be proposed, not what is in force."""

    marks: frozenset[str]
    state: State
    score: float
    changes: tuple[Change, ...]


class Review(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one person says of a proposal. `at` is milliseconds since the epoch."""

    reviewer: str
    at: int
    approves: bool
    reason: str


class Proposal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A measure about an account that two people must review. `why` and `decisions` are what it rests on."""

    id: str
    marks: tuple[str, ...]
    state: Restriction
    why: str
    decisions: tuple[str, ...]


def mark(salt: bytes, kind: str, name: str) -> str:
    """Return what is kept of a name: HMAC-SHA256 with the installation's salt, in hexadecimal."""
    return hmac.new(salt, f"{kind}:{name}".encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


def marks_of(
    salt: bytes, *, user: str = "", end_user: str = "", key: str = "", root_thread: str = ""
) -> tuple[str, ...]:
    """Return by what an actor is known again: the narrowest person there is; without one, the key and the thread.

    An application's end user never stands for the key that many share. A sub-agent is known by `root_thread`, the
    thread that it works for.
    """
    if end_user:
        return (mark(salt, "end_user", f"{key}/{end_user}" if not user else f"{user}/{end_user}"),)
    if user:
        return (mark(salt, "user", user),)
    return tuple(mark(salt, kind, name) for kind, name in (("key", key), ("thread", root_thread)) if name)


def entry_of(
    measure: Measure,
    *,
    decision: str,
    at: int,
    marks: tuple[str, ...],
    item: str = "",
    thread: str = "",
    targets: tuple[str, ...] = (),
) -> Entry | None:
    """Return what is kept of a decision, None where nothing is: what was allowed, or followed from no act of theirs."""
    if measure.concern != "misuse" or measure.ground not in ("outside", "doubt") or measure.level == "benign":
        return None
    return Entry(
        decision=decision,
        at=at,
        marks=marks,
        step=measure.step,
        clause=measure.clause,
        level=measure.level,
        ground=measure.ground,
        item=item,
        thread=thread,
        targets=targets,
    )


def actors(entries: Iterable[Entry]) -> list[tuple[frozenset[str], list[Entry]]]:
    """Return the entries by actor, in the order of time. Those that share a mark, directly or by others, are one's."""
    above: dict[str, str] = {}

    def top(one: str) -> str:
        while above.setdefault(one, one) != one:
            above[one] = one = above[above[one]]
        return one

    ordered = sorted((one for one in entries if one.marks), key=lambda one: (one.at, one.decision))
    for entry in ordered:
        for other in entry.marks:
            above[top(other)] = top(entry.marks[0])
    found: dict[str, list[Entry]] = {}
    for entry in ordered:
        found.setdefault(top(entry.marks[0]), []).append(entry)
    return [(frozenset(mark for one in mine for mark in one.marks), mine) for mine in found.values()]


def account(limits: Limits, entries: Sequence[Entry], at: int, *, overturned: frozenset[str] = frozenset()) -> Account:
    """Return where the actor of `entries` stands at a time; decisions that were reversed count as never made."""
    counted = (one for one in entries if one.decision not in overturned and one.at <= at)
    valid = sorted(counted, key=lambda one: (one.at, one.decision))
    weights = sorted(_weights(limits, valid))
    state: State = "clear"
    changes: list[Change] = []
    for now, until in _moments(weights, at):
        past = weights[:until]
        score = _score(limits, past, now)
        after = _next(limits, state, score, len({one for weight in past for one in weight.decisions}))
        if after != state:
            changes.append(_change(limits, now, (state, after), score, past))
            state = after
    marks = frozenset(mark for one in entries for mark in one.marks)
    return Account(marks, state, round(_score(limits, weights, at), 3), tuple(changes))


def proposal(id: str, account: Account, standing: Standing) -> Proposal | None:
    """Return what is to be put before two people: what the ledger says and is not in force, also that a score faded."""
    wanted = restriction(account.state)
    if wanted == standing.in_force:
        return None
    last = account.changes[-1] if account.changes else None
    why = last.sentence if last is not None else f"The score is {account.score:.1f}."
    return Proposal(id, tuple(sorted(account.marks)), wanted, why, last.decisions if last is not None else ())


def settled(proposed: Proposal, reviews: Sequence[Review], before: Standing, *, actor: str = "") -> Standing:
    """Return what holds by the reviews: two different people must approve and none object, else it stays as before.

    Nobody judges themselves: what `actor` says does not count.
    """
    ordered = sorted(reviews, key=lambda one: one.at)
    valid = {one.reviewer: one for one in ordered if one.reviewer not in ("", actor)}
    approving = tuple(sorted(name for name, one in valid.items() if one.approves))
    if len(approving) < 2 or len(approving) < len(valid):
        return before
    return Standing(proposed.state, approving, proposed.id)


def returning(marks: Iterable[str], bans: Iterable[Proposal], *, id: str, decision: str = "") -> Proposal | None:
    """Return the proposal to look at somebody who bears a mark of a suspended actor, None where nobody does."""
    borne = set(marks)
    for ban in bans:
        if shared := borne & set(ban.marks):
            why = f"It shares {len(shared)} of {len(ban.marks)} marks with the actor suspended by {ban.id}."
            return Proposal(id, tuple(sorted(borne)), "suspended", why, tuple(filter(None, (decision, ban.id))))
    return None


class Difference(NamedTuple):
    """An actor whose account would have gone another way."""

    marks: frozenset[str]
    before: Account
    after: Account


def simulate(
    old: Limits, new: Limits, entries: Iterable[Entry], at: int, *, overturned: frozenset[str] = frozenset()
) -> list[Difference]:
    """Return for whom a change of limits would change anything, by recorded decisions, before it takes effect."""
    found: list[Difference] = []
    for marks, mine in actors(entries):
        was, will_be = (account(limits, mine, at, overturned=overturned) for limits in (old, new))
        if [(one.before, one.after) for one in was.changes] != [(one.before, one.after) for one in will_be.changes]:
            found.append(Difference(marks, was, will_be))
    return found


def _weights(limits: Limits, entries: Sequence[Entry]) -> Iterator[Weight]:
    seen: set[str] = set()
    for entry in entries:
        weighs = limits.weights.get(entry.level, {}).get(entry.step, 0.0) if entry.ground == "outside" else 0.0
        if weighs and (not entry.item or entry.item not in seen):  # a retry of the same item is the same act
            seen.add(entry.item)
            yield Weight(entry.at, weighs, (entry.decision,), f"{entry.clause} ({entry.step})")
    for mosaic in limits.mosaics:
        yield from _mosaics(mosaic, entries)


def _mosaics(mosaic: Mosaic, entries: Sequence[Entry]) -> Iterator[Weight]:
    pieces: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.clause in mosaic.clauses:
            for target in entry.targets:
                recent = [one for one in pieces.get(target, []) if entry.at - one.at <= mosaic.within_h * _HOUR_MS]
                pieces[target] = recent = [*recent, entry]
                newest = {one.clause: one for one in recent}
                if len(newest) >= mosaic.different:
                    pieces[target] = []
                    threads = len({one.thread for one in newest.values()})
                    why = f"{mosaic.name}: {', '.join(sorted(newest))} in {threads} thread{'s' * (threads != 1)}"
                    yield Weight(entry.at, mosaic.weighs, tuple(one.decision for one in newest.values()), why)


def _moments(weights: Sequence[Weight], at: int) -> Iterator[tuple[int, int]]:
    """Yield the times at which a state may change and how many weights count then: before and after each, and now."""
    for number, weight in enumerate(weights):
        yield weight.at, number
        yield weight.at, number + 1
    yield at, len(weights)


def _score(limits: Limits, weights: Sequence[Weight], at: int) -> float:
    fades = math.log(2) / (limits.half_life_h * _HOUR_MS)
    return sum(one.weighs * math.exp((one.at - at) * fades) for one in weights)


def _next(limits: Limits, state: State, score: float, decisions: int) -> State:
    """Return the state after `state`: the highest that is entered; what is held stays until its lower bound."""
    found: State = "clear"
    for one in STATES[1:]:
        rule = limits.states[one]
        held = STATES.index(state) >= STATES.index(one) and score >= rule.leaves
        if held or (score >= rule.enters and decisions >= rule.decisions):
            found = one
    return found


def _change(limits: Limits, at: int, states: tuple[State, State], score: float, weights: Sequence[Weight]) -> Change:
    before, after = states
    if STATES.index(after) < STATES.index(before):
        bound = limits.states[before].leaves
        return Change(
            at, before, after, score, f"The score fell to {score:.1f}, below {bound:g}: nothing new came.", ()
        )
    shown = [one for one in reversed(weights) if _score(limits, [one], at) >= 0.05 * score][:_SHOWN]
    what = "; ".join(f"{one.why} {_score(limits, [one], at):.1f}" for one in shown)
    bound = limits.states[after].enters
    sentence = f"The score rose to {score:.1f}, where {after} begins at {bound:g}: {what}."
    return Change(at, before, after, score, sentence, tuple(one for weight in shown for one in weight.decisions))


def _fault(limits: Limits) -> str:
    weights = [one for steps in limits.weights.values() for one in steps.values()]
    weights += [mosaic.weighs for mosaic in limits.mosaics]
    rules = [limits.states.get(state) for state in STATES[1:]]
    if limits.half_life_h <= 0:
        return "half_life_h must be more than 0"
    if limits.weights.get("benign") or any(one < 0 for one in weights):
        return "weights must be 0 or more, and what is benign weighs nothing"
    if None in rules or "clear" in limits.states:
        return "states must say watched, restricted and suspended, and no others"
    known = [rule for rule in rules if rule is not None]
    if any(not 0 < rule.leaves < rule.enters for rule in known):
        return "a state must be left below where it is entered, or it flickers"
    if [rule.enters for rule in known] != sorted({rule.enters for rule in known}):
        return "states must be entered in the order watched, restricted, suspended"
    if any(rule.decisions < 2 for rule in known) or max(weights, default=0) >= known[0].enters:
        return "one decision must not change a state"
    if any(mosaic.different < 2 for mosaic in limits.mosaics):
        return "a mosaic must have two different pieces or more"
    return ""


def restriction(state: State) -> Restriction:
    """Return what a state would restrict; being watched restricts nothing."""
    return state if state in ("restricted", "suspended") else "clear"
