"""Whatever a stranger sends: no field of a request grants anything, and no text makes a reader fall over."""

from __future__ import annotations

import contextlib
import string
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lathe.gateway.documents import Held
from lathe.gateway.engagements import Targets, engage
from lathe.gateway.entitlements import RANK, Entitlement, grant
from lathe.gateway.policy import Model, Policy
from lathe.gateway.principals import SURFACES, TIERS, Asked, Principal
from lathe.gateway.receipts import verify_receipt
from lathe.gateway.rollout import read_schedule
from lathe.gateway.signing import KeyRing, Signer
from lathe.protocol.errors import UsageError

SIGNER = Signer.fresh()
NOW = 1_790_000_000_000
MODELS = [Model(name="open"), Model(name="gated", tier="verified"), Model(name="cyber", scope=("cyber.defensive",))]
SUBJECTS = ("user:user_1", "user:user_2", "project:proj_1", "project:proj_2", "organisation:org_1")
WHO = Principal("key_1", "org_1", "proj_1", "user_1")


@st.composite
def helds(draw: st.DrawFn) -> Held[Entitlement]:
    subject = draw(st.sampled_from(SUBJECTS))
    made = grant(
        SIGNER,
        subject=subject,
        organisation="org_1" if subject.startswith("organisation") else draw(st.sampled_from(("org_1", "org_2"))),
        tier=draw(st.sampled_from(TIERS[1:])),
        models=draw(st.sampled_from((("*",), ("open", "gat*"), ("cyber",)))),
        surfaces=draw(st.sampled_from((SURFACES, ("cli",), ("api", "batch")))),
        scope=draw(st.sampled_from(((), ("cyber.defensive",)))),
        project=draw(st.sampled_from(("", "proj_1", "proj_2"))) if subject.startswith("user") else "",
        now=NOW,
        starts=NOW + draw(st.integers(-200_000, 200_000)),
        expires=NOW + 200_001 + draw(st.integers(0, 10)),
    )
    return Held(made.entitlement, made.sealed.signature, draw(st.sampled_from((None, None, NOW))))


@settings(deadline=None)
@given(
    st.lists(helds(), max_size=4),
    st.sampled_from(("open", "gated", "cyber")),
    st.sampled_from(SURFACES),
    st.integers(-100_000, 300_000),
    st.sampled_from((*TIERS, "cyber.defensive", "*", "0", "1", "2")) | st.text(max_size=8),
)
def test_what_a_request_names_grants_nothing(
    held: list[Held[Entitlement]], model: str, surface: Any, later: int, program: str
) -> None:
    policy = Policy(held, models=MODELS)
    if program.isdecimal() and int(program) < len(held):
        program = held[int(program)].document.id
    named, free = (policy.decide(WHO, Asked(model, surface, NOW + later, program=word)) for word in (program, ""))
    if named.outcome == "serve":
        assert free.outcome == "serve" and RANK[named.tier] <= RANK[free.tier]
    for found in (named, free):
        if found.entitlement:
            (one,) = [one for one in held if one.document.id == found.entitlement]
            assert one.document.subject in WHO.subjects and one.document.organisation == WHO.organisation
            assert one.document.project in ("", WHO.project) and surface in one.document.surfaces
            assert one.state(NOW + later) == "live" and one.document.tier == found.tier
        elif found.outcome == "serve":
            assert found.tier == "default" and model == "open"


pieces = st.sampled_from(["example.com", "//", "https://", "@", ":", "[", "]", "/", "..", "192.0.2.1", "::", "%", "\\"])


@settings(deadline=None)
@given(st.text(max_size=40) | st.lists(pieces | st.text(alphabet=string.printable, max_size=3)).map("".join))
def test_no_target_makes_the_matching_fall_over(target: str) -> None:
    made = engage(
        SIGNER,
        organisation="o",
        project="p",
        name="n",
        authority="0" * 64,
        now=0,
        expires=1,
        domains=("example.com",),
        networks=("192.0.2.0/24",),
        repositories=("example.net/a",),
    )
    assert Targets(made.engagement).cover(target) in (True, False)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)
entries = st.dictionaries(st.sampled_from(["surface", "tier", "from", "share", "region"]), anything)


@settings(deadline=None)
@given(anything | st.fixed_dictionaries({"entries": st.lists(anything | entries, max_size=3)}))
def test_a_schedule_is_read_or_refused_with_a_sentence(data: Any) -> None:
    with contextlib.suppress(UsageError):
        read_schedule("gpt-x", data)


@settings(deadline=None)
@given(st.binary(max_size=60) | st.text(alphabet='{}[]":,\\u0019eE+-.truefalsn', max_size=60).map(str.encode))
def test_no_text_passes_for_a_receipt_or_makes_the_reading_fall_over(text: bytes) -> None:
    ring = KeyRing([SIGNER.public_key])
    wrapped = b'{"key":"%b","signature":"","receipt":%b}' % (SIGNER.key_id.encode(), text)
    for document in (text, wrapped):
        with contextlib.suppress(UsageError):
            raise AssertionError(verify_receipt(document, ring))
