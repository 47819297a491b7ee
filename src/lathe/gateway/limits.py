"""How much a key, a project and an organisation may ask for: rates, concurrency, money.

Rates are token buckets that fill by the second and hold a minute's worth. What a request may cost is set aside before
it is sent and made right when it has ended. Each replica hands out its share of a rate; money is what all replicas
have recorded, and what this one has set aside since.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, NamedTuple

import msgspec

MICRO = 1_000_000
"""Micro-dollars in a dollar."""
_MOST_BUCKETS = 50_000
_LEFT = 0.2
"""What part of a limit idle work leaves to others."""

_Positive = Annotated[float, msgspec.Meta(gt=0)]


class Budget(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """US dollars a month (UTC). Past `soft` of it, answers say so; past all of it, requests are refused."""

    monthly_usd: _Positive
    soft: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.8


class Allowance(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The limits of one scope (a key, a project or an organisation); what is None is not limited."""

    requests_per_minute: _Positive | None = None
    tokens_per_minute: _Positive | None = None
    concurrent: Annotated[int, msgspec.Meta(ge=1)] | None = None
    budget: Budget | None = None


class LimitReached(Exception):
    """A limit does not let a request through.

    `code` is `rate_limit`, `concurrency_limit` or `budget_exhausted`; `retry_after_s` is None where waiting for
    seconds does not help.
    """

    def __init__(self, code: str, message: str, scope: str, retry_after_s: float | None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.scope = scope
        self.retry_after_s = retry_after_s


class _Bucket:
    """A rate: `level` is what is left of it, and `at` (monotonic seconds) when that was."""

    __slots__ = ("at", "level")

    def __init__(self, level: float, at: float) -> None:
        self.level = level
        self.at = at

    def fill(self, most: float, now: float) -> None:
        self.level = min(most, self.level + (now - self.at) * most / 60)
        self.at = now


class _Meter:
    """What a scope uses now."""

    __slots__ = ("budgeted", "held", "requests", "running", "spent", "tokens")

    def __init__(self, now: float) -> None:
        self.requests = _Bucket(math.inf, now)
        self.tokens = _Bucket(math.inf, now)
        self.running = 0
        self.held = 0
        self.spent = 0
        self.budgeted = False


class Hold:
    """What was set aside for one request, until it is settled."""

    __slots__ = ("_cost", "_limits", "_tokens", "scopes", "warnings")

    def __init__(
        self, limits: Limits, scopes: Sequence[tuple[str, Allowance]], tokens: int, cost: int, warnings: tuple[str, ...]
    ) -> None:
        self._limits: Limits | None = limits
        self.scopes = scopes
        self.warnings = warnings
        self._tokens = tokens
        self._cost = cost

    def settle(self, tokens: int, cost: int) -> None:
        """Make right what was set aside; a second time does nothing."""
        limits, self._limits = self._limits, None
        if limits is not None:
            limits.settle(self.scopes, self._tokens - tokens, self._cost, cost)


class Scope(NamedTuple):
    """`kind:id` and what is allowed there."""

    name: str
    allowance: Allowance


class _Wish(NamedTuple):
    tokens: int
    cost: int
    now: float
    left: float


class Limits:
    """The meters of one replica. `share` is what part of a rate it may hand out: one over the number of replicas."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.share = 1.0
        self._clock = clock
        self._meters: dict[str, _Meter] = {}
        self._spent: dict[str, int] = {}

    def hold(self, scopes: Sequence[Scope], tokens: int, cost: int, *, idle: bool = False) -> Hold:
        """Set `tokens` and `cost` (micro-dollars) aside in all scopes, or in none; raise `LimitReached`.

        What is `idle` work leaves a fifth of each rate and of the concurrency to others.
        """
        now = self._clock()
        wish = _Wish(tokens, cost, now, _LEFT if idle else 0.0)
        warnings: list[str] = []
        meters: list[_Meter] = []
        limited = [scope for scope in scopes if scope.allowance != _NOTHING]
        for scope in limited:
            meter = self._meter(scope.name, now)
            meters.append(meter)
            self._check_rates(scope, meter, wish)
            warnings += _check_budget(scope, meter, wish)
        for meter, (_, allowance) in zip(meters, limited, strict=True):
            meter.running += 1
            meter.held += cost
            if allowance.requests_per_minute is not None:
                meter.requests.level -= 1
            if allowance.tokens_per_minute is not None:
                meter.tokens.level -= tokens
        return Hold(self, limited, tokens, cost, tuple(warnings))

    def _check_rates(self, scope: Scope, meter: _Meter, wish: _Wish) -> None:
        name, allowance = scope
        concurrent = allowance.concurrent
        if concurrent is not None and meter.running >= max(1, int(concurrent * self.share * (1 - wish.left))):
            message = f"{_said(name)} has {meter.running} requests under way, and may have no more."
            raise LimitReached("concurrency_limit", message, name, 1)
        for bucket, most, wanted, what in (
            (meter.requests, allowance.requests_per_minute, 1, "requests"),
            (meter.tokens, allowance.tokens_per_minute, wish.tokens, "tokens"),
        ):
            if most is None:
                continue
            most *= self.share
            bucket.fill(most, wish.now)
            # what is larger than the whole bucket goes when the bucket is full, and leaves it in debt
            left = most * wish.left
            missing = min(wanted, most - left) + left - bucket.level
            if missing > 1e-9:
                message = f"{_said(name)} may use {most:g} {what} a minute, and has used them up."
                raise LimitReached("rate_limit", message, name, missing * 60 / most)

    def settle(self, scopes: Sequence[tuple[str, Allowance]], tokens_left: int, held: int, cost: int) -> None:
        """Give back what a request did not use, and count what it did."""
        now = self._clock()
        for name, allowance in scopes:
            meter = self._meter(name, now)
            meter.running -= 1
            meter.held -= held
            meter.spent += cost
            if allowance.tokens_per_minute is not None:
                meter.tokens.level += tokens_left

    def budgeted(self) -> list[str]:
        """Return the scopes with a budget that have been in use lately."""
        return [name for name, meter in self._meters.items() if meter.budgeted]

    def recorded(self, spent: Mapping[str, int]) -> None:
        """Take over what all replicas have recorded this month, in micro-dollars by scope."""
        self._spent.update(spent)
        for name, cost in spent.items():
            if name in self._meters:
                self._meters[name].spent = cost

    def _meter(self, name: str, now: float) -> _Meter:
        meter = self._meters.get(name)
        if meter is None:
            if len(self._meters) >= _MOST_BUCKETS:
                self._forget(now)
            meter = self._meters[name] = _Meter(now)
            meter.spent = self._spent.get(name, 0)
        return meter

    def _forget(self, now: float) -> None:
        """Drop the meters of scopes that have rested for more than a minute: they are full again."""
        old = [name for name, one in self._meters.items() if one.running == 0 and now - one.requests.at > 60]
        for name in old:
            self._spent[name] = self._meters.pop(name).spent


def _check_budget(scope: Scope, meter: _Meter, wish: _Wish) -> list[str]:
    """Return what is to be said of a budget that is nearly used up; raise `LimitReached`."""
    name, allowance = scope
    if allowance.budget is None:
        return []
    meter.budgeted = True
    most = int(allowance.budget.monthly_usd * MICRO)
    used = meter.spent + meter.held + wish.cost
    if used > most:
        raise LimitReached(
            "budget_exhausted",
            f"{_said(name)} has spent {meter.spent / MICRO:.2f} of {most / MICRO:.2f} US dollars this month; "
            f"{meter.held / MICRO:.2f} are set aside, and this request may take {wish.cost / MICRO:.2f}.",
            name,
            None,
        )
    return [f"{name} has used {used / most:.0%} of its budget"] if used > most * allowance.budget.soft else []


_NOTHING = Allowance()
_KINDS = {"key": "The key", "project": "The project", "organisation": "The organisation"}


def _said(name: str) -> str:
    return _KINDS.get(name.partition(":")[0], name)
