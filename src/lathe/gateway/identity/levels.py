"""How surely somebody is who they say, and what an OpenID provider's claims mean for that."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

Level: TypeAlias = Literal["none", "address", "account", "mfa", "passkey", "seen"]
LEVELS: tuple[Level, ...] = ("none", "address", "account", "mfa", "passkey", "seen")
"""Least first.

`address`: reads the mail of an address. `account`: signed in at a provider. `mfa`: with two factors. `passkey`: with
a key that no other site can be shown. `seen`: somebody who answers for it has looked at documents.
"""

# RFC 8176, by what kind of factor each stands for.
_KNOWN = frozenset({"pwd", "pin", "kba"})
_HELD = frozenset({"otp", "sms", "tel", "hwk", "swk", "sc", "pop"})
_OWN = frozenset({"face", "fpt", "iris", "retina", "vbm"})
# Keys that prove themselves to one site only; the last three are in use without being registered.
_BOUND = frozenset({"hwk", "sc", "pop", "fido", "webauthn", "passkey"})
# OpenID Connect Extended Authentication Profile: phishing-resistant, the second in hardware.
_BOUND_ACR = frozenset({"phr", "phrh"})
_TWO_ACR = frozenset({"http://schemas.openid.net/pape/policies/2007/06/multi-factor", "https://refeds.org/profile/mfa"})


def reaches(held: Level, needed: Level) -> bool:
    """Return whether `held` is at least `needed`."""
    return LEVELS.index(held) >= LEVELS.index(needed)


def level_of(claims: dict[str, Any], mfa_acr: Iterable[str] = (), passkey_acr: Iterable[str] = ()) -> Level:
    """Return the level that `amr` and `acr` of an ID token say; the further names are a provider's own for `acr`."""
    listed = claims.get("amr")
    methods = {one for one in listed if isinstance(one, str)} if isinstance(listed, list) else set()
    acr = claims.get("acr") if isinstance(claims.get("acr"), str) else ""
    factors = sum(bool(methods & kind) for kind in (_KNOWN, _HELD, _OWN))
    if acr in _BOUND_ACR or acr in set(passkey_acr):
        return "passkey"
    if methods & _BOUND and (factors >= 2 or methods & {"mfa", "fido", "webauthn", "passkey"}):
        return "passkey"
    if acr in _TWO_ACR or acr in set(mfa_acr) or "mfa" in methods or factors >= 2:
        return "mfa"
    return "account"
