"""Words for how far somebody is trusted and where they ask from; the gateway and the guard share them."""

from __future__ import annotations

from typing import Literal, TypeAlias

Tier: TypeAlias = Literal["default", "verified", "organisation", "specialist"]
TIERS: tuple[Tier, ...] = ("default", "verified", "organisation", "specialist")
"""How far a principal is trusted, least first."""
RANK: dict[str, int] = {tier: rank for rank, tier in enumerate(TIERS)}
"""How strong a tier is."""
Surface: TypeAlias = Literal["cli", "ide", "api", "batch"]
SURFACES: tuple[Surface, ...] = ("cli", "ide", "api", "batch")
Retention: TypeAlias = Literal["full", "metadata", "zero"]
"""How much a project lets the gateway keep of what is asked and answered."""
