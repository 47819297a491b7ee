"""When models open: entries, shares that only grow, what a closed model says, and rehearsal before a change."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lathe.gateway.policy import Model, Policy
from lathe.gateway.principals import Asked, Principal, Surface, Tier
from lathe.gateway.rehearsal import TrafficRow, rehearse
from lathe.gateway.rollout import Schedule, opens, read_schedule, said, share_of, shown
from lathe.protocol.errors import UsageError


def day(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


WHO = Principal("key_1", "org_1", "proj_1", "user_1")
SCHEDULE = read_schedule(
    "gpt-x",
    {
        "entries": [
            {"surface": "cli", "tier": "verified", "from": "2026-02-05"},
            {"surface": ["cli", "ide"], "from": "2026-02-12T09:00:00+01:00"},
            {"surface": "api", "from": "2026-02-24", "region": "eu"},
            {"surface": "api", "tier": "specialist", "from": "2026-03-01", "share": 1},
        ]
    },
)


@pytest.mark.parametrize(
    ("when", "surface", "tier", "region", "entry"),
    [
        ("2026-02-04", "cli", "verified", "", 0),
        ("2026-02-05", "cli", "verified", "", 1),
        ("2026-02-05", "cli", "specialist", "", 1),
        ("2026-02-05", "cli", "default", "", 0),
        ("2026-02-05", "ide", "verified", "", 0),
        ("2026-02-12T07:59:59", "ide", "default", "", 0),
        ("2026-02-12T08:00:00", "ide", "default", "", 2),
        ("2026-02-13", "cli", "verified", "", 2),
        ("2026-02-24", "api", "default", "eu", 3),
        ("2026-02-24", "api", "default", "us", 0),
        ("2026-02-24", "api", "default", "", 0),
        ("2026-03-01", "api", "specialist", "us", 4),
        ("2030-01-01", "batch", "specialist", "eu", 0),
    ],
)
def test_a_model_opens_by_surface_tier_date_and_region(
    when: str, surface: Surface, tier: Tier, region: str, entry: int
) -> None:
    found = opens(SCHEDULE, WHO, tier, Asked("gpt-x", surface, day(when), region))
    assert (found.open, found.entry) == (entry > 0, entry)


def sentence(when: str, surface: Surface, tier: Tier, region: str = "") -> str:
    asked = Asked("gpt-x", surface, day(when), region)
    return said(opens(SCHEDULE, WHO, tier, asked), WHO, tier, asked)


def test_a_closed_model_says_when_it_opens_and_for_whom() -> None:
    assert sentence("2026-02-06", "cli", "default") == (
        "it opens to project proj_1 with the tier default on cli on 2026-02-12 08:00 UTC, "
        "to the same project it is open now with the tier verified on cli"
    )
    assert sentence("2026-01-01", "api", "default", "eu") == (
        "it opens to project proj_1 with the tier default on api in the region eu on 2026-02-24 00:00 UTC, to the "
        "same project it opens earlier with the tier verified on cli from 2026-02-05 00:00 UTC; or the tier default "
        "on cli and ide from 2026-02-12 08:00 UTC"
    )
    assert sentence("2026-03-02", "batch", "default") == (
        "no date is set for project proj_1 with the tier default on batch, to the same project it is open now with "
        "the tier verified on cli; or the tier default on cli and ide; or the tier default on api in the region eu"
    )


def test_the_refusal_of_a_request_carries_the_opening() -> None:
    policy = Policy((), (), [SCHEDULE], models=[Model(name="gpt-x")])
    found = policy.decide(WHO, Asked("gpt-x", "api", day("2026-02-20"), "eu"))
    assert (found.code, found.status, found.clause) == ("model_not_open", 403, "rollout:gpt-x")
    assert found.message.startswith("gpt-x is not open to this request yet: it opens to project proj_1")
    assert found.details["opens_at"] == day("2026-02-24")
    assert [way["surfaces"] for way in found.details["open_now"]] == [("cli",), ("cli", "ide")]
    served = policy.decide(WHO, Asked("gpt-x", "cli", day("2026-02-20")))
    assert (served.outcome, served.clause) == ("serve", "rollout:gpt-x:2")


def at_share(share: float) -> Schedule:
    return read_schedule("gpt-x", {"entries": [{"from": 0, "share": share}]})


@settings(deadline=None)
@given(st.text(min_size=1), st.floats(0.001, 1), st.floats(0.001, 1))
def test_a_project_that_is_in_stays_in_when_the_share_grows(project: str, one: float, other: float) -> None:
    who, asked = WHO._replace(project=project), Asked("gpt-x", "api", 1)
    small, large = sorted((one, other))
    if opens(at_share(small), who, "default", asked).open:
        assert opens(at_share(large), who, "default", asked).open
    assert opens(at_share(1), who, "default", asked).open


def test_a_share_is_that_of_projects_and_each_model_draws_its_own() -> None:
    everyone = [WHO._replace(project=f"proj_{number}") for number in range(4000)]
    asked = Asked("gpt-x", "api", 1)
    share = sum(opens(at_share(0.1), who, "default", asked).open for who in everyone) / len(everyone)
    assert 0.08 < share < 0.12
    both = sum(share_of("a", who) < 0.1 and share_of("b", who) < 0.1 for who in everyone) / len(everyone)
    assert both < 0.02
    assert all(share_of("a", who) == share_of("a", who._replace(user="another", key="")) for who in everyone[:10])


def test_the_widest_of_overlapping_entries_wins_and_none_at_all_is_closed() -> None:
    wide = read_schedule("gpt-x", {"entries": [{"from": 0, "share": 0.0001}, {"from": 0}, {"from": 0, "share": 0.2}]})
    assert opens(wide, WHO, "default", Asked("gpt-x", "api", 1)).entry == 2
    asked = Asked("gpt-x", "api", 1)
    closed = opens(Schedule("gpt-x", ()), WHO, "specialist", asked)
    assert not closed.open and "no date is set" in said(closed, WHO, "specialist", asked)
    policy = Policy((), (), [], models=[Model(name="gpt-x")])
    assert policy.decide(WHO, asked).clause == "model:gpt-x"


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ("soon", ["must be an object with a list of entries"]),
        (["now"], ["Entry 1: it must be an object."]),
        ([{"from": 0}, {"from": 0, "surfaces": "cli"}], ["Entry 2: there is no field surfaces, only from, region"]),
        ([{"from": 0, "surface": "web"}], ["Entry 1: there is no surface 'web', only cli, ide, api and batch."]),
        ([{"from": 0, "tier": ["default"]}], ["Entry 1: there is no tier ['default'], only default, verified"]),
        ([{}], ["Entry 1: its from None must be a date"]),
        ([{"from": "2026-02-30"}], ["'2026-02-30' must be a date"]),
        ([{"from": "2026-02-03T10:00"}], ["a time with its zone"]),
        ([{"from": True}], ["must be a date"]),
        ([{"from": 0, "share": 0}], ["its share 0 must be a number above 0"]),
        ([{"from": 0, "share": float("nan")}], ["its share nan"]),
        ([{"from": 0, "region": ""}], ["'' is no region"]),
        ([{"from": 0, "share": 2}, {"from": -1, "tier": "root"}], ["Entry 1: its share 2", "Entry 2: there is no tier",
                                                                    "Entry 2: its from -1"]),
    ],
)  # fmt: skip
def test_every_fault_of_a_schedule_has_its_sentence(entries: Any, says: list[str]) -> None:
    with pytest.raises(UsageError) as failed:
        read_schedule("gpt-x", {"entries": entries})
    assert all(part in failed.value.message for part in says)
    assert failed.value.code == "schedule_invalid"


def test_a_schedule_is_shown_as_it_is_read() -> None:
    assert read_schedule("gpt-x", shown(SCHEDULE)) == SCHEDULE


def test_a_change_is_rehearsed_against_yesterdays_requests() -> None:
    models = [Model(name="gpt-x"), Model(name="gpt-y")]
    fallbacks = {"proj_2": {"gpt-x": ("gpt-y",)}}
    old = Policy((), (), [], models=models, fallbacks=fallbacks)
    new = old.with_rollouts([read_schedule("gpt-x", {"entries": [{"from": "2026-05-01", "surface": "cli"}]})])
    yesterday = day("2026-04-30")
    traffic = [
        TrafficRow(f"req_{number}", yesterday + number, "org_1", f"proj_{number % 3}", model, surface)
        for number, (model, surface) in enumerate([("gpt-x", "cli"), ("gpt-x", "api"), ("gpt-y", "api")] * 10)
    ]
    rows = [row._replace(project=f"proj_{number // 3 % 3}") for number, row in enumerate(traffic)]
    found = rehearse(old, new, iter(rows))
    assert (found.requests, found.changed, found.before, found.after) == (30, 20, old.hash, new.hash)
    assert [(one.before, one.after, one.requests, one.projects) for one in found.changes] == [
        ("serve:gpt-x", "refuse:model_not_open", 14, ("proj_0", "proj_1")),
        ("serve:gpt-x", "serve:gpt-y", 6, ("proj_2",)),
    ]
    assert found.projects == ("proj_0", "proj_1", "proj_2")
    example = found.changes[0].examples[0]
    assert len(found.changes[0].examples) == 5 and example.request == "req_0"
    assert "gpt-x is served" in example.before and "2026-05-01" in example.after
    # once the date has come, those of the command line are served again
    assert rehearse(old, new, iter(rows), at=day("2026-05-01")).changed == 10
    assert rehearse(old, old, iter(rows)).changes == ()
