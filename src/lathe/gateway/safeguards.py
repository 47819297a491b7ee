"""Safeguards: what a model's classification asks of the gateway that serves it, in a file that is written, not typed.

`lathe card build` writes one for a model. It can only tighten what `gateway.toml` says. A file that is missing, broken,
edited by hand, out of date or at odds with the settings keeps the gateway from starting.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from lathe.gateway.rollout import Entry, Gate, Schedule
from lathe.guard.reviewed import content_hash
from lathe.protocol.errors import ConfigError
from lathe.protocol.trust import RANK, TIERS, Retention, Surface, Tier

if TYPE_CHECKING:
    from lathe.gateway.policy import Model
    from lathe.gateway.settings import GatewaySettings
    from lathe.guard.policy import Policy as GuardPolicy

Fallback: TypeAlias = Literal["none", "named", "any"]
"""What may be served in place of a model: nothing, the models that the file names, or what the project agreed to."""
FALLBACKS: tuple[Fallback, ...] = ("none", "named", "any")
KEEPS: dict[Retention, int] = {"zero": 0, "metadata": 1, "full": 2}
"""How much is kept, least first."""
RUNNING = frozenset({"topical", "reasoner", "acts", "secrets"})
"""The monitors that the gateway's guard runs; see `guarding/monitors.py`."""
_LARGEST = 1_000_000
_AHEAD_MS = 86_400_000
"""How far a file may be from the future before the clock is taken to be wrong."""


class Basis(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the safeguards follow from: hashes of classification and thresholds, digests of the runs, by their ids.

    `categories` says how each was classified.
    """

    classification: str
    thresholds: str
    runs: dict[str, str]
    categories: dict[str, str]


class Safeguards(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="type",
    tag="lathe.safeguards.v1",
):
    """One model's. Times are milliseconds since the epoch.

    `surfaces` says from which tier on the model is served on each; one that is not named is closed. `scope` are words
    that an entitlement must have for the model, `scopes` the tier from which on a word counts with it. `monitors` must
    be on. `fallback` says what may be served in its place, `fallbacks` name it; `stands_in` whether it may be served in
    place of another. `retention` is the least that must be kept of a request. `digest` is of all the rest.
    """

    model: str
    surfaces: dict[Surface, Tier]
    scope: tuple[str, ...] = ()
    scopes: dict[str, Tier] = {}
    monitors: tuple[str, ...] = ()
    fallback: Fallback = "any"
    fallbacks: tuple[str, ...] = ()
    stands_in: bool = True
    retention: Retention = "zero"
    basis: Basis
    issued: int
    expires: int
    digest: str = ""

    @property
    def tier(self) -> Tier:
        """The tier without which the model is served nowhere."""
        return min(self.surfaces.values(), key=RANK.__getitem__, default=TIERS[-1])

    def may_give_way_to(self, other: str) -> bool:
        """Say whether another model may be served in place of this one."""
        return self.fallback == "any" or (self.fallback == "named" and other in self.fallbacks)

    def counted(self, scope: Iterable[str], tier: Tier) -> tuple[str, ...]:
        """Return those words of a scope that count with this model for somebody of a tier."""
        return tuple(word for word in scope if RANK[tier] >= RANK[self.scopes.get(word, "default")])

    def gate(self) -> Gate:
        """Return on which surface the model is open to whom, in the form of a rollout."""
        entries = (Entry(starts=0, surfaces=(surface,), tier=tier) for surface, tier in sorted(self.surfaces.items()))
        return Gate(Schedule(self.model, tuple(entries)))


NONE: Mapping[str, Safeguards] = MappingProxyType({})


def sealed(safeguards: Safeguards) -> Safeguards:
    """Return safeguards with the digest of what they say."""
    return msgspec.structs.replace(safeguards, digest=content_hash(msgspec.structs.replace(safeguards, digest="")))


def written(safeguards: Safeguards) -> bytes:
    """Return the file of sealed safeguards."""
    return msgspec.json.format(msgspec.json.encode(safeguards), indent=2) + b"\n"


def load_safeguards(paths: Iterable[str | Path], *, now: int) -> dict[str, Safeguards]:
    """Return the safeguards in files, by model; raise `ConfigError` for a file that is not whole, or no longer holds.

    `now` is milliseconds since the epoch.
    """
    found: dict[str, Safeguards] = {}
    for path in map(Path, paths):
        one = read_safeguards(path)
        if one.expires <= now:
            raise _wrong(path, "its time is over", "Build the card anew from runs of today: lathe card build.")
        if one.issued > now + _AHEAD_MS:
            raise _wrong(path, "it is from the future", "See to the clock of this machine.")
        if one.model in found:
            raise _wrong(
                path, f"the model {one.model!r} has safeguards already, from another file", "Give one of them."
            )
        found[one.model] = one
    return found


def read_safeguards(path: Path) -> Safeguards:
    """Return the safeguards of a file, whenever they hold; raise `ConfigError` where it is not as it was written."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"The safeguards in {path} can't be read: {error.strerror}.", hint=_MAKE, code="safeguards"
        ) from None
    if len(data) > _LARGEST:
        raise _wrong(path, f"the file is larger than {_LARGEST:,} bytes", _MAKE)
    try:
        one = msgspec.json.decode(data, type=Safeguards)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _wrong(path, f"the file is not what it should be ({error})", _MAKE) from None
    if one.digest != sealed(one).digest:
        raise _wrong(path, "the file was changed after it was written", _MAKE)
    return one


_MAKE = "lathe card build writes the file; it is not for editing."


def safeguards_of(settings: GatewaySettings, *, now: int) -> dict[str, Safeguards]:
    """Return the safeguards that the settings name, by model, once all that they ask for is there.

    Raises `ConfigError`. It loads the guard's monitors to see that those which must be on can be: that takes a while.
    """
    found = load_safeguards(settings.safeguards, now=now)
    if not found:
        return found
    if not settings.guard.enabled:
        _check(found, settings, None)
        return found
    from lathe.gateway.guarding.guard import policy_of
    from lathe.gateway.guarding.monitors import shipped_monitors

    policy = policy_of(settings.guard)
    _check(found, settings, policy)
    monitors = shipped_monitors(policy)
    monitors.close()
    for name, one in found.items():
        if missing := [monitor for monitor in one.monitors if monitor not in monitors.loaded]:
            raise _odds(f"The safeguards of {name!r} need the monitor {missing[0]!r}, which can't be loaded")
    return found


def _check(found: Mapping[str, Safeguards], settings: GatewaySettings, guard: GuardPolicy | None) -> None:
    """Raise `ConfigError` where safeguards and settings are at odds; `guard` is None where the guard is off."""
    models = [*settings.models, *(["mend"] if settings.mend else [])]
    aliases = {alias: name for name, table in settings.models.items() for alias in table.aliases}
    for name, one in found.items():
        who = f"The safeguards of {name!r}"
        if name not in models:
            named = f"; it is another name of {aliases[name]!r}" if name in aliases else ""
            known = ", ".join(models) or "none"
            raise _odds(f"{who} are of a model that is not served here{named}; there is {known}")
        if unknown := [other for other in one.fallbacks if other not in models or other == name]:
            raise _odds(f"{who} name {unknown[0]!r} as what may be served in its place, which is no other model here")
        if KEEPS[settings.retention] < KEEPS[one.retention]:
            raise _odds(
                f'{who} need retention = "{one.retention}" at least, and the settings say "{settings.retention}"'
            )
        ways = _ways(settings, name)
        if same := [other for other in models if other not in found and ways & _ways(settings, other)]:
            raise _odds(f"{who} would not hold: {same[0]!r} leads to the same model, and has no safeguards")
        if one.monitors and guard is None:
            raise _odds(f"{who} need the guard ({', '.join(one.monitors)}), and the settings say guard.enabled = false")
        if guard is not None:
            _check_guard(who, one, guard)


def _ways(settings: GatewaySettings, model: str) -> set[tuple[str, str]]:
    """Return upstreams and the names by which a model is asked there; the embedded engine is one whatever its name."""
    table = settings.models.get(model)
    routes = table.routes if table is not None else (model,)
    found = [(one, "") if isinstance(one, str) else (one.upstream, one.model) for one in routes]
    return {(upstream, "" if upstream == "mend" else called or model) for upstream, called in found}


def _check_guard(who: str, one: Safeguards, guard: GuardPolicy) -> None:
    if missing := [name for name in one.monitors if name not in RUNNING or name not in guard.monitors]:
        runs = ", ".join(sorted(RUNNING & guard.monitors.keys()))
        raise _odds(f"{who} need the monitor {missing[0]!r}, which this gateway does not run; it runs {runs}")
    if idle := [name for name in one.monitors if name != "topical" and not guard.monitors[name].judges]:
        raise _odds(f"{who} need the monitor {idle[0]!r}, which the guard's policy lets stop nothing")
    words = {*one.scope, *one.scopes}
    if unknown := sorted(words - guard.taxonomy.scopes.keys()):
        raise _odds(f"{who} speak of the scope {unknown[0]!r}, which the guard's taxonomy does not have")


def guarded_model(model: Model, found: Mapping[str, Safeguards]) -> Model:
    """Return a model with the stricter of what settings and safeguards ask for it."""
    one = found.get(model.name)
    if one is None:
        return model
    tier = max(model.tier, one.tier, key=RANK.__getitem__)
    scope = tuple(dict.fromkeys((*model.scope, *one.scope)))
    return msgspec.structs.replace(model, tier=tier, scope=scope, safeguards=one)


def shown(one: Safeguards) -> dict[str, object]:
    """Return what is told of safeguards beside a model: what they ask, and what that follows from."""
    return {
        "digest": one.digest,
        "classification": one.basis.classification,
        "thresholds": one.basis.thresholds,
        "categories": one.basis.categories,
        "surfaces": one.surfaces,
        "scope": one.scope,
        "scopes": one.scopes,
        "monitors": one.monitors,
        "fallback": one.fallback,
        "fallbacks": one.fallbacks,
        "stands_in": one.stands_in,
        "retention": one.retention,
        "expires": one.expires,
    }


def _wrong(path: Path, what: str, hint: str) -> ConfigError:
    return ConfigError(f"The safeguards in {path} don't hold: {what}.", hint=hint, code="safeguards")


def _odds(what: str) -> ConfigError:
    return ConfigError(f"{what}.", hint="Safeguards only tighten: change gateway.toml.", code="safeguards")
