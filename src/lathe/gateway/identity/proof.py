"""Proofs of identity: what has been shown that a person or an organisation is who they say.

A proof has a method and a level. The methods here are `oidc` (what a provider says at a sign-in), `email` (a link
that reached an address), `manual` (a reviewer says what was seen) and `letter` (an organisation's letter). Others come
as plug-ins: an entry point in the group `lathe.identity` names a `Method`. Which tier needs which proofs is data.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from sqlalchemy import Row, delete, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from lathe.gateway.identity.levels import LEVELS, Level, reaches
from lathe.gateway.principals import Tier
from lathe.protocol.errors import ConfigError, UsageError
from lathe.protocol.ids import ordered_id
from lathe.store.gateway.schema import proofs, users

if TYPE_CHECKING:
    from lathe.gateway.identity.oidc import Identified

DAY_MS = 86_400_000
GROUP = "lathe.identity"
_log = logging.getLogger(__name__)

Needs: TypeAlias = tuple[tuple[str, ...], ...]
"""Alternatives, of each of which every word must be met: `METHOD`, `METHOD:LEVEL`, or `*:LEVEL` for any method."""

DEFAULT_NEEDS: dict[Tier, Needs] = {
    "default": (),
    "verified": (("oidc:mfa",), ("manual",)),
    "organisation": (("letter",), ("manual",)),
    "specialist": (("oidc:mfa", "letter"), ("manual",)),
}


class Proof(NamedTuple):
    """Something that was shown. `subject` is `user:ID` or `organisation:ID`; `author` who states it, "" for nobody."""

    method: str
    level: Level
    subject: str
    evidence: Mapping[str, Any]
    at: int
    expires: int | None = None
    author: str = ""


class Claim(NamedTuple):
    """What is brought forward for a proof: the fields of a form, files by their field, and who does it."""

    subject: str
    fields: Mapping[str, str]
    files: Mapping[str, bytes]
    author: str
    at: int


class Method(NamedTuple):
    """A way to prove identity.

    `check` returns the proof, or raises `UsageError` with one sentence; it must not believe `fields` without looking.
    `by_reviewer` says that only a reviewer may bring it forward, for somebody else. `fields` are those of its form:
    name and label, a label that ends in `*` for a file.
    """

    name: str
    title: str
    check: Callable[[Claim], Awaitable[Proof]]
    fields: tuple[tuple[str, str], ...] = ()
    by_reviewer: bool = False
    for_organisations: bool = False


def oidc_proof(who: Identified, now: int) -> Proof:
    """Return what a sign-in at a provider shows; it holds for a year, and is renewed by every sign-in."""
    evidence = {"issuer": who.issuer, "subject": who.subject, "amr": list(who.amr), "acr": who.acr}
    return Proof("oidc", who.level, "", evidence, now, now + 365 * DAY_MS)


async def record(connection: AsyncConnection, user: Row[Any], proof: Proof) -> bool:
    """Keep a proof of a user in place of older ones of its method; return whether what is known of them has changed.

    `users.identity` sums up the strongest proof; what a reviewer has seen is not weakened by a later sign-in.
    """
    kept = proof._replace(subject=f"user:{user.id}")
    await keep(connection, user.organisation, kept)
    summary = {"method": proof.method, "level": proof.level, "at": proof.at}
    if proof.author:
        summary["by"] = proof.author
    held = user.identity or {}
    if _rank(held) > _rank(summary) and held.get("method") != proof.method:
        return False
    await connection.execute(update(users).where(users.c.id == user.id).values(identity=summary))
    return {**held, "at": 0} != {**summary, "at": 0}


async def keep(connection: AsyncConnection, organisation: str, proof: Proof) -> str:
    """Keep a proof in place of older ones by the same method, and return its id."""
    same = (proofs.c.subject == proof.subject) & (proofs.c.method == proof.method)
    await connection.execute(delete(proofs).where(same))
    id = ordered_id("proof")
    values = proof._asdict() | {"id": id, "organisation": organisation, "evidence": dict(proof.evidence)}
    await connection.execute(insert(proofs).values(values))
    return id


async def held(connection: AsyncConnection, subjects: Iterable[str], now: int) -> list[Proof]:
    """Return the proofs of some subjects that hold now, the newest first."""
    live = or_(proofs.c.expires.is_(None), proofs.c.expires > now)
    columns = [proofs.c[name] for name in Proof._fields]
    query = select(*columns).where(proofs.c.subject.in_(list(subjects)), live).order_by(proofs.c.at.desc())
    return [Proof(*row) for row in await connection.execute(query)]


def needs_of(tier: str, settings: Mapping[Tier, Needs]) -> Needs:
    """Return which proofs a tier needs, where the settings of the gateway say so in their way."""
    return next((ways for name, ways in {**DEFAULT_NEEDS, **settings}.items() if name == tier), ())


def wanting(needs: Needs, shown: Iterable[Proof]) -> str:
    """Return what is missing, as the end of a sentence; "" where one of the alternatives is met."""
    have = list(shown)
    missing = [[word for word in way if not any(_meets(word, proof) for proof in have)] for way in needs]
    if not missing or not all(missing):
        return ""
    return ", or ".join(" and ".join(_said(word) for word in way) for way in missing)


def check_needs(needs: Mapping[Tier, Needs]) -> None:
    """Raise `ConfigError` where a word of the settings names no method or no level."""
    known = {"*", "oidc", "email", *methods()}
    for tier, ways in needs.items():
        for word in (word for way in ways for word in way):
            method, _, level = word.partition(":")
            if method not in known or (level and level not in LEVELS):
                raise ConfigError(
                    f"proof.{tier} asks for {word!r}.",
                    hint=f"Write METHOD or METHOD:LEVEL, of {', '.join(sorted(known))} and {', '.join(LEVELS)}.",
                )


def _meets(word: str, proof: Proof) -> bool:
    method, _, level = word.partition(":")
    wanted: Level = next((one for one in LEVELS if one == level), "none")
    return method in ("*", proof.method) and reaches(proof.level, wanted)


_METHODS = {
    "*": "any proof",
    "oidc": "a sign-in at a provider",
    "email": "a confirmed address",
    "manual": "documents that a reviewer has seen",
    "letter": "a letter of the organisation",
}
_HOW: dict[str, str] = {
    "mfa": " with a second factor",
    "passkey": " with a passkey",
    "seen": " that a reviewer has seen",
}


def _said(word: str) -> str:
    method, _, level = word.partition(":")
    return _METHODS.get(method, method) + _HOW.get(level, "")


_STATED: dict[str, Level] = {"basic": "address", "document": "seen", "in_person": "seen"}
"""Levels of `identify_user`, by which a reviewer states what they have seen."""


def stated(subject: str, identity: Mapping[str, Any]) -> Proof:
    """Return the proof that a reviewer's word is: `identity` as `identify_user` keeps it."""
    evidence = {"seen": identity["note"], "how": identity["level"]}
    level = _STATED[identity["level"]]
    at = identity["at"]
    return Proof(identity["method"], level, subject, evidence, at, at + 730 * DAY_MS, identity["by"])


def _rank(identity: Mapping[str, Any]) -> int:
    level = identity.get("level", "none")
    level = _STATED.get(level, level)
    return LEVELS.index(level) if level in LEVELS else 0


@functools.cache
def methods() -> dict[str, Method]:
    """Return the methods that can be brought forward, by name: those of the house, then those of plug-ins.

    A plug-in that fails to load, or takes a name that is taken, is left out and told of in the log.
    """
    from importlib.metadata import entry_points

    from lathe.gateway.identity.letters import LETTER, MANUAL

    found = {one.name: one for one in (MANUAL, LETTER)}
    for point in entry_points(group=GROUP):
        try:
            method = point.load()
        except Exception as error:
            _log.warning("The identity method %s can't be loaded: %s", point.name, error)
            continue
        if not isinstance(method, Method) or method.name in {*found, "oidc", "email"}:
            _log.warning("The identity method %s is no Method with a name of its own.", point.name)
            continue
        found[method.name] = method
    return found


async def prove(name: str, claim: Claim) -> Proof:
    """Return the proof that a method makes of a claim; raise `UsageError`."""
    method = methods().get(name)
    if method is None:
        raise UsageError(f"There is no identity method {name!r}.", hint=f"There are {', '.join(methods())}.")
    if claim.subject.startswith("organisation:") != method.for_organisations and name != "manual":
        raise UsageError(f"{method.title} is not a proof for {claim.subject.partition(':')[0]}s.")
    proof = await method.check(claim)
    # The plug-in says what it has found, not whose it is nor when.
    return proof._replace(method=name, subject=claim.subject, at=claim.at)
