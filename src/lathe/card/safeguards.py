"""From a classification to the safeguards that it switches on: the strictest of what its categories ask."""

from __future__ import annotations

from collections.abc import Sequence

from lathe.card.classify import Classification
from lathe.card.thresholds import strictest
from lathe.gateway.safeguards import Basis, Fallback, Safeguards, sealed

_DAY_MS = 86_400_000


def safeguards_for(
    classification: Classification, *, served_as: str, fallbacks: Sequence[str], issued: int
) -> Safeguards:
    """Return the sealed safeguards of a model that a gateway serves as `served_as`.

    `fallbacks` are what may be served in its place where the classification lets only named models be; where none is
    named, nothing may. `issued` is milliseconds since the epoch.
    """
    asked = strictest(one.category.demands[one.status] for one in classification.categories)
    fallback: Fallback = "none" if asked.fallback == "named" and not fallbacks else asked.fallback
    return sealed(
        Safeguards(
            model=served_as,
            surfaces=asked.surfaces,
            scope=asked.scope,
            scopes=asked.scopes,
            monitors=asked.monitors,
            fallback=fallback,
            fallbacks=tuple(fallbacks) if fallback == "named" else (),
            stands_in=asked.stands_in,
            retention=asked.retention,
            basis=Basis(
                classification=classification.hash,
                thresholds=classification.thresholds.hash,
                runs=classification.runs,
                categories={one.category.id: one.status for one in classification.categories},
            ),
            issued=issued,
            expires=issued + classification.thresholds.valid_days * _DAY_MS,
        )
    )
