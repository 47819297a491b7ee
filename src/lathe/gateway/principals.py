"""Who asks: what a key stands for, and what a request says of itself."""

from __future__ import annotations

import hashlib
import secrets
from typing import Literal, NamedTuple

from lathe.protocol.trust import SURFACES as SURFACES
from lathe.protocol.trust import TIERS as TIERS
from lathe.protocol.trust import Retention
from lathe.protocol.trust import Surface as Surface
from lathe.protocol.trust import Tier as Tier

PREFIX = "lathe-"
_HINT = 4


class Principal(NamedTuple):
    """The owner of a key. `user` is "" for a machine, `project` for a key of the whole organisation.

    `roles` are the user's in the organisation and the installation, `scopes` what the key may be used for, `surface`
    where its requests come from ("" where each says it itself).
    """

    key: str
    organisation: str
    project: str
    user: str = ""
    scopes: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()
    surface: Surface | Literal[""] = ""
    expires: int | None = None

    @property
    def subjects(self) -> tuple[str, ...]:
        """As whom entitlements may be held, the narrowest first."""
        named = (f"user:{self.user}" if self.user else "", f"project:{self.project}" if self.project else "")
        return (*(one for one in named if one), f"organisation:{self.organisation}")


class Asked(NamedTuple):
    """What a request asks for. `at` is milliseconds since the epoch.

    `program` names the entitlement, or the scope of one, that the request wants to be judged by; `engagement` the
    piece of security work that it belongs to. Both choose among what is held, and grant nothing. `keeps` is how much
    its project lets the gateway keep.
    """

    model: str
    surface: Surface
    at: int
    region: str = ""
    program: str = ""
    engagement: str = ""
    no_fallback: bool = False
    end_user: str = ""
    keeps: Retention = "full"


def new_key() -> str:
    """Return a fresh key, of 256 random bits."""
    return PREFIX + secrets.token_urlsafe(32)


def key_digest(key: str) -> str:
    """Return what is kept of a key: its SHA-256, in hexadecimal."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def key_hint(key: str) -> str:
    """Return the last letters of a key, by which its owner knows it again."""
    return key[-_HINT:]
