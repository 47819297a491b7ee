"""By what right the person works: what the gateway says of their key, else what they say in a file of their own.

Nobody is asked before a decision depends on it. What was heard counts for a second, so that with the gateway's own
delay a grant or a revocation is live within two; where nothing can be heard, the tier is `default`.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from lathe.protocol.errors import ConfigError, LatheError
from lathe.protocol.trust import Tier
from lathe.sandbox.mounts import is_below
from lathe.sandbox.policy import SandboxPolicy

if TYPE_CHECKING:
    from lathe.guard.engaged import Targets
    from lathe.guard.engagement_file import OwnEngagement
    from lathe.models.rights import Entitled

KEPT_S = 1.0
"""How long an answer of the gateway counts."""

AskRights: TypeAlias = "Callable[[], Awaitable[Entitled]]"


class Rights(NamedTuple):
    """What somebody holds. `within` are the targets of the engagement, None without one.

    With `bound` the tier and the scope hold at those targets alone. `why` says why it is no more than that.
    """

    tier: Tier = "default"
    scope: tuple[str, ...] = ()
    entitlement: str = ""
    engagement: str = ""
    within: Targets | None = None
    bound: bool = False
    why: str = ""

    @property
    def more(self) -> bool:
        """Whether this is more than everybody has."""
        return self.tier != "default" or bool(self.scope) or self.within is not None

    def at(self, targets: Sequence[str]) -> Rights:
        """Return what is held at these targets."""
        if not self.bound or (self.within is not None and targets and all(map(self.within.cover, targets))):
            return self
        return Rights(why=f"The engagement {self.engagement} does not hold what it is aimed at.")


class RightsKnown:
    """The rights of one thread: `ask` asks the gateway, `own` is the person's own engagement where there is none."""

    def __init__(self, ask: AskRights | None = None, own: OwnEngagement | None = None) -> None:
        self._ask = ask
        self._own = own
        self._kept: tuple[float, Rights] | None = None

    async def now(self) -> Rights:
        """Return what is held now; never raises."""
        if self._ask is None:
            return _of_file(self._own) if self._own is not None else Rights()
        began = time.monotonic()  # what changes while the gateway answers is not in the answer
        if self._kept is not None and began - self._kept[0] < KEPT_S:
            return self._kept[1]
        try:
            rights = _of_gateway(await self._ask())
        except LatheError as error:
            rights = Rights(why=error.message)
        except ValueError:
            rights = Rights(why="The gateway names targets that make no sense.")
        self._kept = (began, rights)
        return rights


def own_engagement(file: str | None, policy: SandboxPolicy) -> OwnEngagement | None:
    """Return the engagement that the settings name; raise `ConfigError` where it is wrong or the agent could write it.

    Where nothing keeps the agent from writing anything, nothing can be said of that.
    """
    if not file:
        return None
    from lathe.guard.engagement_file import OwnEngagement

    path = Path(file).expanduser().resolve()
    if any(is_below(str(path), str(Path(root).resolve())) for root in policy.writable_roots):
        raise ConfigError(
            f"The engagement file {path} lies in the workspace, where the agent may write.",
            hint="Keep it beside your own config.toml.",
        )
    return OwnEngagement.load(path)


def _of_file(own: OwnEngagement) -> Rights:
    if why := own.why_not(datetime.now(UTC)):
        return Rights(why=why)
    return Rights(own.tier, own.scope, engagement=own.name, within=own.targets, bound=True)


def _of_gateway(said: Entitled) -> Rights:
    from lathe.guard.engaged import Targets

    if said.outcome != "serve":
        return Rights(why=said.message)
    within = Targets(said.targets) if said.engagement and said.targets is not None else None
    return Rights(said.tier, said.scope, said.entitlement, said.engagement if within is not None else "", within)
