"""Entitlements: signed grants of trust to a person, a project or an organisation, for models, surfaces and a time.

Nothing but its own fields and its revocation decides whether an entitlement counts: that a renewal is under review,
declined or withdrawn touches it in no way.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from lathe.gateway.documents import Sealed, checked, seal, unseal
from lathe.gateway.principals import SURFACES, Surface, Tier
from lathe.gateway.signing import KeyRing, Signer
from lathe.protocol.errors import UsageError
from lathe.protocol.ids import short_id
from lathe.protocol.trust import RANK as RANK

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_SUBJECT = re.compile(rf"(user|project|organisation):({_ID.pattern})")
_SCOPE = re.compile(r"[a-z0-9]+([.-][a-z0-9]+)*")
_GLOB = re.compile(r"[\x21-\x7e]{1,200}")
_STARS = 3


class Entitlement(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="type",
    tag="lathe.entitlement.v1",
):
    """A grant. `subject` is `user:ID`, `project:ID` or `organisation:ID`; a `project` of "" is any of the organisation.

    `models` are names, in which `*` stands for any letters; `scope` are words such as `cyber.defensive`. Times are
    milliseconds since the epoch.
    """

    id: str
    subject: str
    organisation: str
    tier: Tier
    models: tuple[str, ...]
    surfaces: tuple[Surface, ...]
    issued: int
    starts: int
    expires: int
    project: str = ""
    scope: tuple[str, ...] = ()


class Granted(NamedTuple):
    """A new entitlement, and its signed form."""

    entitlement: Entitlement
    sealed: Sealed


def grant(
    signer: Signer,
    *,
    subject: str,
    organisation: str,
    tier: Tier,
    expires: int,
    now: int,
    models: Iterable[str] = ("*",),
    surfaces: Iterable[Surface] = SURFACES,
    project: str = "",
    scope: Iterable[str] = (),
    starts: int | None = None,
) -> Granted:
    """Return a new signed entitlement; raise `UsageError` that says what is wrong with it."""
    made = Entitlement(
        id=short_id("ent"),
        subject=subject,
        organisation=organisation,
        tier=tier,
        models=tuple(dict.fromkeys(models)),
        surfaces=tuple(dict.fromkeys(surfaces)),
        issued=now,
        starts=now if starts is None else starts,
        expires=expires,
        project=project,
        scope=tuple(dict.fromkeys(scope)),
    )
    _check(checked(made))
    return Granted(made, seal(made, signer))


def read(text: str, signature: str, ring: KeyRing, key: str = "") -> Entitlement:
    """Return the entitlement of a signed text; raise `UsageError` where it is not genuine or makes no sense.

    `key` is the id of the key that it is said to be signed by; "" tries all of the ring.
    """
    found = unseal(Entitlement, text, signature, ring, key)
    _check(found)
    return found


def matching(globs: tuple[str, ...], names: Iterable[str]) -> frozenset[str]:
    """Return those of `names` that one of the `globs` fits; only `*` is special in them."""
    fits = re.compile("|".join(".*".join(map(re.escape, glob.split("*"))) for glob in globs), re.DOTALL)
    return frozenset(name for name in names if fits.fullmatch(name))


def _check(one: Entitlement) -> None:
    kind, _, holder = one.subject.partition(":")
    wrong = ""
    if not _SUBJECT.fullmatch(one.subject):
        wrong = f"its subject {one.subject[:100]!r} is not user:ID, project:ID or organisation:ID"
    elif not _ID.fullmatch(one.organisation):
        wrong = "it names no organisation"
    elif kind == "organisation" and holder != one.organisation:
        wrong = f"its subject {one.subject} is another organisation than {one.organisation}"
    elif kind == "project" and one.project not in ("", holder):
        wrong = f"its subject {one.subject} is another project than {one.project}"
    elif one.tier == "default":
        wrong = "the tier default needs no entitlement"
    elif not one.surfaces or not one.models:
        wrong = "it must name at least one surface and one model"
    elif bad := [glob for glob in one.models if not _GLOB.fullmatch(glob) or glob.count("*") > _STARS]:
        wrong = f"{bad[0][:100]!r} is no name of a model"
    elif bad := [word for word in one.scope if not _SCOPE.fullmatch(word) or word in RANK]:
        wrong = f"{bad[0][:100]!r} is no word for a scope, such as cyber.defensive"
    elif one.starts >= one.expires:
        wrong = "it ends before it begins"
    if wrong:
        raise UsageError(f"The entitlement can't be granted: {wrong}.", code="entitlement_invalid")
