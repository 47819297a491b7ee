"""Engagements: pieces of authorised security work, with their targets, their window and who gave the authority."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from lathe.gateway.documents import Sealed, checked, seal, unseal
from lathe.gateway.signing import KeyRing, Signer
from lathe.guard.engaged import Targets as Targets
from lathe.guard.engaged import Unfit, fault, normal_domain, normal_network, normal_repository
from lathe.protocol.errors import UsageError
from lathe.protocol.ids import short_id

_SHA256 = re.compile(r"[0-9a-f]{64}")


class Engagement(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="type",
    tag="lathe.engagement.v1",
):
    """Work on targets. `domains` count with all below them; `repositories` are `HOST/PATH`.

    `authority` is the SHA-256, in hexadecimal, of the document in which the owner of the targets agrees. Times are
    milliseconds since the epoch.
    """

    id: str
    organisation: str
    project: str
    name: str
    authority: str
    issued: int
    starts: int
    expires: int
    domains: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    repositories: tuple[str, ...] = ()


class Opened(NamedTuple):
    """A new engagement, and its signed form."""

    engagement: Engagement
    sealed: Sealed


def engage(
    signer: Signer,
    *,
    organisation: str,
    project: str,
    name: str,
    authority: str,
    expires: int,
    now: int,
    starts: int | None = None,
    domains: Iterable[str] = (),
    networks: Iterable[str] = (),
    repositories: Iterable[str] = (),
) -> Opened:
    """Return a new signed engagement, its targets in their normal form; raise `UsageError` for what is wrong."""
    try:
        made = Engagement(
            id=short_id("eng"),
            organisation=organisation,
            project=project,
            name=name,
            authority=authority.lower(),
            issued=now,
            starts=now if starts is None else starts,
            expires=expires,
            domains=tuple(dict.fromkeys(map(normal_domain, domains))),
            networks=tuple(dict.fromkeys(map(normal_network, networks))),
            repositories=tuple(dict.fromkeys(map(normal_repository, repositories))),
        )
    except Unfit as error:
        raise _wrong(str(error)) from None
    _check(checked(made))
    return Opened(made, seal(made, signer))


def read(text: str, signature: str, ring: KeyRing, key: str = "") -> Engagement:
    """Return the engagement of a signed text; raise `UsageError` where it is not genuine or makes no sense."""
    found = unseal(Engagement, text, signature, ring, key)
    _check(found)
    return found


def _check(one: Engagement) -> None:
    if not one.organisation or not one.project:
        raise _wrong("it must belong to a project of an organisation")
    if not one.name.strip() or len(one.name) > 200:
        raise _wrong("its name must have 1 to 200 letters")
    if not _SHA256.fullmatch(one.authority):
        raise _wrong("its authority must be the SHA-256 of the document, in 64 hexadecimal digits")
    if one.starts >= one.expires:
        raise _wrong("its window ends before it begins")
    if wrong := fault(one):
        raise _wrong(wrong)


def _wrong(what: str) -> UsageError:
    return UsageError(f"The engagement can't be opened: {what}.", code="engagement_invalid")
