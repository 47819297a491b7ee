"""Who gets which model: entitlements, what a request names among them, engagements, fallbacks, and the sentences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lathe.gateway import engagements
from lathe.gateway.documents import LEEWAY_MS, Held
from lathe.gateway.entitlements import Entitlement, grant, read
from lathe.gateway.policy import Decision, Model, Policy
from lathe.gateway.principals import Asked, Principal
from lathe.gateway.refusals import REFUSALS
from lathe.gateway.rollout import read_schedule
from lathe.gateway.signing import KeyRing, Signer
from lathe.protocol.errors import UsageError

NOW = 1_790_000_000_000
DAY = 86_400_000
SIGNER = Signer.fresh()
WHO = Principal("key_1", "org_1", "proj_1", "user_1")
MODELS = [
    Model(name="open", aliases=("latest",)),
    Model(name="gated", tier="verified"),
    Model(name="cyber", tier="specialist", scope=("cyber.defensive",)),
    Model(name="claude-x[1m]"),
]


def held(revoked: int | None = None, **fields: Any) -> Held[Entitlement]:
    base: dict[str, Any] = {
        "subject": "user:user_1",
        "organisation": "org_1",
        "tier": "verified",
        "expires": NOW + DAY,
        "now": NOW - DAY,
    }
    made = grant(SIGNER, **(base | fields))
    return Held(made.entitlement, made.sealed.signature, revoked, "the key was lost" if revoked else "")


def decide(
    *entitlements: Held[Entitlement], who: Principal = WHO, model: str = "gated", at: int = NOW, **asked: Any
) -> Decision:
    policy = Policy(entitlements, models=MODELS)
    return policy.decide(who, Asked(model, asked.pop("surface", "api"), at, **asked))


@pytest.mark.parametrize(
    ("fields", "model", "asked", "outcome"),
    [
        ({}, "gated", {}, "verified"),
        ({}, "open", {}, "verified"),
        ({}, "latest", {}, "verified"),
        ({"subject": "project:proj_1"}, "gated", {}, "verified"),
        ({"subject": "organisation:org_1"}, "gated", {}, "verified"),
        ({"models": ("ga*d",)}, "gated", {}, "verified"),
        ({"tier": "specialist", "scope": ("cyber.defensive", "x")}, "cyber", {}, "specialist"),
        ({"tier": "specialist"}, "gated", {}, "specialist"),
        ({"project": "proj_1"}, "gated", {}, "verified"),
        # what a request names is used, or nothing is
        ({}, "gated", {"program": "verified"}, "verified"),
        ({"scope": ("cyber.defensive",)}, "gated", {"program": "cyber.defensive"}, "verified"),
        ({}, "open", {"program": "default"}, "default"),
        ({}, "gated", {"program": "default"}, "access_mismatch"),
        ({}, "open", {"program": "specialist"}, "access_not_held"),
        ({}, "open", {"program": "cyber.defensive"}, "access_not_held"),
        ({}, "open", {"program": "ent_0000000000000000"}, "access_not_held"),
        ({"surfaces": ("cli", "ide")}, "open", {"program": "verified"}, "access_mismatch"),
        ({"models": ("ga*",)}, "open", {"program": "verified"}, "access_mismatch"),
        ({"project": "proj_2"}, "open", {"program": "verified"}, "access_mismatch"),
        ({"scope": ("cyber.offensive",)}, "cyber", {"program": "cyber.offensive"}, "access_mismatch"),
        ({"expires": NOW}, "open", {"program": "verified"}, "entitlement_expired"),
        ({"starts": NOW + LEEWAY_MS + 1}, "open", {"program": "verified"}, "entitlement_not_begun"),
        ({"revoked": NOW - 1}, "open", {"program": "verified"}, "entitlement_revoked"),
        # what does not fit leaves the default
        ({"expires": NOW}, "open", {}, "default"),
        ({"revoked": NOW - 1}, "open", {}, "default"),
        ({"surfaces": ("cli",)}, "open", {}, "default"),
        ({"subject": "user:user_2"}, "open", {}, "default"),
        ({"organisation": "org_2"}, "open", {}, "default"),
        ({"models": ("claude-x[1m]",)}, "claude-x[1m]", {}, "verified"),
        ({"models": ("claude-x[1m]",)}, "open", {}, "default"),
        # a model that needs more than is held
        ({"subject": "user:user_2"}, "gated", {}, "model_needs_access"),
        ({"organisation": "org_2"}, "gated", {}, "model_needs_access"),
        ({"project": "proj_2"}, "gated", {}, "model_needs_access"),
        ({"surfaces": ("cli",)}, "gated", {}, "model_needs_access"),
        ({"models": ("gate",)}, "gated", {}, "model_needs_access"),
        ({"tier": "specialist"}, "cyber", {}, "model_needs_access"),
        ({"scope": ("cyber.defensive",)}, "cyber", {}, "model_needs_access"),
        ({"expires": NOW}, "gated", {}, "entitlement_expired"),
        ({"revoked": NOW - 1}, "gated", {}, "entitlement_revoked"),
        ({"starts": NOW + LEEWAY_MS + 1}, "gated", {}, "entitlement_not_begun"),
        ({}, "nothing", {}, "model_unknown"),
        # the clock of another machine may be a little ahead where something begins, and never where it ends
        ({"starts": NOW + LEEWAY_MS}, "gated", {}, "verified"),
        ({"expires": NOW + 1}, "gated", {}, "verified"),
    ],
)
def test_what_a_request_is_judged_by(fields: dict[str, Any], model: str, asked: dict[str, Any], outcome: str) -> None:
    found = decide(held(**fields), model=model, **asked)
    assert (found.tier if found.outcome == "serve" else found.code) == outcome
    assert bool(found.entitlement) == (found.outcome == "serve" and outcome != "default")
    if found.outcome == "refuse":
        assert found.model == "" and found.status == REFUSALS[found.code].status
        assert found.message.endswith(".") and found.hint and found.clause


def test_the_strongest_that_fits_is_used_and_a_named_one_exactly() -> None:
    person, team = held(), held(subject="organisation:org_1", tier="organisation", scope=("team",))
    expert = held(tier="specialist", surfaces=("cli",))
    every = (person, expert, team)
    assert decide(*every).entitlement == team.document.id
    assert decide(*every, surface="cli").entitlement == expert.document.id
    for one, name in ((person, person.document.id), (person, "verified"), (team, "organisation"), (team, "team")):
        assert decide(*every, surface="cli", program=name).entitlement == one.document.id
    assert decide(*every, program=expert.document.id).code == "access_mismatch"
    machine = WHO._replace(user="")
    assert decide(*every, who=machine, surface="cli").entitlement == team.document.id
    assert decide(*every, who=machine, program=person.document.id).code == "access_not_held"


def test_a_mismatch_says_what_is_held_and_what_would_be_needed() -> None:
    one = held(surfaces=("cli",), models=("ga*", "open"), scope=("cyber.defensive",))
    found = decide(one, program="cyber.defensive", who=WHO)
    assert found.message == (
        f"The request asks to be judged by 'cyber.defensive', which does not fit it: {one.document.id} holds on cli, "
        "not on api; it would need an entitlement of the tier verified for gated on api."
    )
    assert found.details["needed"] == {
        "model": "gated",
        "surface": "api",
        "project": "proj_1",
        "tier": "verified",
        "scope": [],
    }
    (shown,) = found.details["held"]
    assert shown == {
        "id": one.document.id,
        "subject": "user:user_1",
        "tier": "verified",
        "scope": ["cyber.defensive"],
        "models": ["ga*", "open"],
        "surfaces": ["cli"],
        "project": "",
        "starts": NOW - DAY,
        "expires": NOW + DAY,
        "state": "live",
    }
    gone = decide(held(revoked=NOW - DAY))
    assert "the key was lost" in gone.message and gone.details["held"][0]["why"] == "the key was lost"


def test_an_entitlement_lives_until_its_end_whatever_becomes_of_its_renewal() -> None:
    """A renewal that is under review, declined or withdrawn has no way in: only a grant or a revocation has."""
    end = NOW + 10 * LEEWAY_MS
    old, new = held(expires=end), held(starts=end, expires=NOW + DAY)
    for renewal in ([], [new]):
        assert decide(old, *renewal, at=NOW).entitlement == old.document.id
        assert decide(old, *renewal, at=end - 1).tier == "verified"
    assert decide(old, at=end).code == "entitlement_expired"
    assert decide(old, new, at=end).entitlement == new.document.id
    assert {field for field in Held._fields if field != "document"} == {"signature", "revoked", "why"}


def test_a_grant_is_read_back_only_as_it_was_signed() -> None:
    made = grant(SIGNER, subject="user:u", organisation="org_1", tier="verified", expires=NOW + DAY, now=NOW)
    ring = KeyRing([Signer.fresh().public_key, SIGNER.public_key])
    text, signature, key = made.sealed
    assert read(text, signature, ring) == read(text, signature, ring, key) == made.entitlement
    for changed in (text.replace("user:u", "user:v"), text.replace("verified", "specialist"), text + " "):
        with pytest.raises(UsageError, match="signature") as failed:
            read(changed, signature, ring)
        assert failed.value.code == "signature_invalid"
    with pytest.raises(UsageError, match="signature"):
        read(text, signature, ring, next(iter(ring)))
    opened = engagement()
    with pytest.raises(UsageError, match="not of the kind") as failed:
        read(opened.sealed.text, opened.sealed.signature, ring)
    assert failed.value.code == "kind_invalid"


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"subject": "root"}, "user:ID"),
        ({"subject": "user:a b"}, "user:ID"),
        ({"organisation": ""}, "organisation"),
        ({"subject": "organisation:org_2"}, "another organisation"),
        ({"subject": "project:proj_1", "project": "proj_2"}, "another project"),
        ({"tier": "default"}, "needs no entitlement"),
        ({"tier": "root"}, "Invalid enum value 'root'"),
        ({"surfaces": ("web",)}, "Invalid enum value 'web'"),
        ({"surfaces": ()}, "at least one surface"),
        ({"models": ()}, "at least one"),
        ({"models": ("a b",)}, "name of a model"),
        ({"models": ("*a*a*a*a*",)}, "name of a model"),
        ({"scope": ("Cyber",)}, "cyber.defensive"),
        ({"scope": ("specialist",)}, "cyber.defensive"),
        ({"expires": NOW - DAY}, "before it begins"),
    ],
)
def test_a_grant_that_makes_no_sense_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        held(**fields)


def engagement(**fields: Any) -> engagements.Opened:
    base: dict[str, Any] = {
        "organisation": "org_1",
        "project": "proj_1",
        "name": "Spring test",
        "authority": "ab" * 32,
        "expires": NOW + DAY,
        "now": NOW - DAY,
        "domains": ("example.com",),
    }
    return engagements.engage(SIGNER, **(base | fields))


@pytest.mark.parametrize(
    ("fields", "revoked", "who", "code"),
    [
        ({}, None, WHO, ""),
        ({"starts": NOW + LEEWAY_MS}, None, WHO, ""),
        ({"starts": NOW + LEEWAY_MS + 1}, None, WHO, "engagement_not_begun"),
        ({"expires": NOW}, None, WHO, "engagement_expired"),
        ({}, NOW - 1, WHO, "engagement_revoked"),
        ({}, None, WHO._replace(project="proj_2"), "engagement_mismatch"),
        ({}, None, WHO._replace(organisation="org_2"), "engagement_mismatch"),
    ],
)
def test_an_engagement_counts_for_its_project_within_its_window(
    fields: dict[str, Any], revoked: int | None, who: Principal, code: str
) -> None:
    opened = engagement(**fields)
    policy = Policy((), [Held(opened.engagement, opened.sealed.signature, revoked)], models=MODELS)
    found = policy.decide(who, Asked("open", "api", NOW, engagement=opened.engagement.id))
    assert found.code == code
    assert found.engagement == ("" if code else opened.engagement.id)
    unknown = policy.decide(who, Asked("open", "api", NOW, engagement="eng_0000000000000000"))
    assert unknown.code == "engagement_mismatch"
    if code == "engagement_mismatch":  # one of a stranger reads just as one that is not there
        assert found.message == unknown.message.replace("eng_0000000000000000", opened.engagement.id)


FALLBACKS = {"proj_1": {"new": ("nothing", "gated", "open"), "*": ("open",)}}
CLOSED = [read_schedule("new", {"entries": [{"from": "2099-01-01"}]})]
FALLING = Policy((), (), CLOSED, models=[*MODELS, Model(name="new", aliases=("newest",))], fallbacks=FALLBACKS)


def test_a_fallback_is_the_projects_own_named_and_shown() -> None:
    for name in ("new", "newest"):
        found = FALLING.decide(WHO, Asked(name, "api", NOW))
        assert (found.outcome, found.requested, found.model) == ("serve", name, "open")
        assert found.substitution == "fallback:model_not_open" and found.code == "model_not_open"
        assert "new is not open" in found.message and found.message.endswith("The project's fallback open is served.")
        assert found.details["instead_of"] == "rollout:new"
    down = FALLING.decide(WHO, Asked("claude-x[1m]", "api", NOW), down={"claude-x[1m]"})
    assert (down.model, down.substitution) == ("open", "fallback:model_unavailable")


def test_no_fallback_turns_it_into_an_error_and_nobody_else_gets_one() -> None:
    kept = FALLING.decide(WHO, Asked("new", "api", NOW, no_fallback=True))
    assert (kept.outcome, kept.code, kept.model) == ("refuse", "model_not_open", "")
    assert "no_fallback" in kept.message and kept.details["fallback"] == "open"
    stranger = FALLING.decide(WHO._replace(project="proj_2"), Asked("new", "api", NOW))
    assert (stranger.outcome, stranger.code) == ("refuse", "model_not_open")
    assert FALLING.decide(WHO, Asked("open", "api", NOW), down={"open"}).code == "model_unavailable"
    # a fallback helps where a model is away, and is no way around what it needs
    assert FALLING.decide(WHO, Asked("gated", "api", NOW)).code == "model_needs_access"


def test_another_name_of_a_model_is_told_too() -> None:
    found = decide(model="latest")
    assert (found.requested, found.model, found.substitution) == ("latest", "open", "alias:latest")


def test_the_hash_names_what_the_policy_is_made_of_and_nothing_else() -> None:
    one, two = held(), held(tier="specialist")
    schedule = read_schedule("open", {"entries": [{"from": "2026-01-01"}]})
    base = Policy([one, two], (), [schedule], models=MODELS, fallbacks=FALLBACKS)
    assert base.hash == Policy([two, one], (), [schedule], models=MODELS, fallbacks=FALLBACKS).hash
    others = [
        Policy([one], (), [schedule], models=MODELS, fallbacks=FALLBACKS),
        Policy([one, two._replace(revoked=NOW)], (), [schedule], models=MODELS, fallbacks=FALLBACKS),
        Policy([one, two], (), CLOSED, models=MODELS, fallbacks=FALLBACKS),
        base.with_rollouts(CLOSED),
        Policy([one, two], (), [schedule], models=MODELS[:1], fallbacks=FALLBACKS),
        Policy([one, two], (), [schedule], models=MODELS),
    ]
    assert len({base.hash, *(one.hash for one in others)}) == len(others) + 1
    assert base.with_rollouts([schedule]).hash == base.hash
    for text in (base.hash, decide().policy):
        assert len(text) == 64 and int(text, 16)


def test_every_code_has_a_sentence_a_next_step_and_a_line_on_its_page() -> None:
    page = (Path(__file__).parents[2] / "docs" / "access.md").read_text(encoding="utf-8")
    for code, kind in REFUSALS.items():
        assert 400 <= kind.status < 600 and kind.sentence.endswith(".") and kind.hint.endswith("."), code
        assert f"| `{code}` | {kind.status} | {kind.sentence} |" in page
