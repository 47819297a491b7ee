"""Rates, concurrency and budgets: what is set aside, given back, and refused in which words."""

from __future__ import annotations

import pytest

from lathe.gateway.limits import MICRO, Allowance, Budget, LimitReached, Limits, Scope


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limits(clock: Clock) -> Limits:
    return Limits(clock)


def refused(limits: Limits, *scopes: Scope, tokens: int = 10, cost: int = 0) -> LimitReached:
    with pytest.raises(LimitReached) as caught:
        limits.hold(scopes, tokens, cost)
    return caught.value


def test_a_rate_fills_by_the_second_and_says_when_to_come_again(limits: Limits, clock: Clock) -> None:
    scope = Scope("key:a", Allowance(requests_per_minute=60))
    for _ in range(60):
        limits.hold([scope], 10, 0)
    error = refused(limits, scope)
    assert (error.code, error.scope, error.retry_after_s) == ("rate_limit", "key:a", pytest.approx(1.0))
    clock.now += error.retry_after_s or 0
    limits.hold([scope], 10, 0)
    refused(limits, scope)
    clock.now += 3600  # no more than a minute's worth is ever saved up
    for _ in range(60):
        limits.hold([scope], 10, 0)
    refused(limits, scope)


def test_tokens_that_were_set_aside_and_not_used_come_back(limits: Limits) -> None:
    scope = Scope("project:a", Allowance(tokens_per_minute=1000))
    held = limits.hold([scope], 900, 0)
    refused(limits, scope, tokens=200)
    held.settle(100, 0)
    held.settle(100, 0)  # twice is once
    limits.hold([scope], 900, 0)
    refused(limits, scope, tokens=100)


@pytest.mark.parametrize(
    "allowance", [Allowance(requests_per_minute=60), Allowance(tokens_per_minute=600), Allowance(concurrent=60)]
)
def test_idle_work_leaves_a_fifth_to_others(limits: Limits, allowance: Allowance) -> None:
    scope = Scope("project:a", allowance)
    for _ in range(48):
        limits.hold([scope], 10, 0, idle=True)
    with pytest.raises(LimitReached):
        limits.hold([scope], 10, 0, idle=True)
    for _ in range(12):
        limits.hold([scope], 10, 0)
    refused(limits, scope)


def test_what_is_larger_than_a_minute_goes_alone_and_leaves_a_debt(limits: Limits, clock: Clock) -> None:
    scope = Scope("key:a", Allowance(tokens_per_minute=1000))
    limits.hold([scope], 5000, 0)
    clock.now += 60
    refused(limits, scope)
    clock.now += 241
    limits.hold([scope], 10, 0)


def test_a_limit_of_one_scope_takes_nothing_from_the_others(limits: Limits) -> None:
    wide, narrow = Scope("organisation:a", Allowance(requests_per_minute=2)), Scope("key:a", Allowance(concurrent=1))
    limits.hold([narrow, wide], 1, 0)
    for _ in range(5):
        assert refused(limits, wide, narrow).code == "concurrency_limit"
    limits.hold([wide], 1, 0)
    assert refused(limits, wide).code == "rate_limit"


def test_a_budget_counts_what_is_recorded_and_what_is_set_aside(limits: Limits) -> None:
    scope = Scope("project:a", Allowance(budget=Budget(monthly_usd=10, soft=0.5)))
    limits.recorded({"project:a": 4 * MICRO})
    first = limits.hold([scope], 1, 500_000)
    assert first.warnings == ()
    second = limits.hold([scope], 1, 3 * MICRO)
    assert second.warnings == ("project:a has used 75% of its budget",)
    error = refused(limits, scope, cost=3 * MICRO)
    assert (error.code, error.retry_after_s) == ("budget_exhausted", None)
    assert "4.00 of 10.00 US dollars" in error.message
    second.settle(1, 100_000)
    limits.hold([scope], 1, 3 * MICRO)
    assert limits.budgeted() == ["project:a"]


def test_a_replica_hands_out_its_share(limits: Limits) -> None:
    limits.share = 0.5
    scope = Scope("key:a", Allowance(requests_per_minute=60, concurrent=20))
    holds = [limits.hold([scope], 1, 0) for _ in range(10)]
    assert refused(limits, scope).code == "concurrency_limit"
    for hold in holds:
        hold.settle(1, 0)
    for _ in range(20):
        limits.hold([scope], 1, 0).settle(1, 0)
    assert refused(limits, scope).code == "rate_limit"
