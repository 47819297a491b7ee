"""The policy of the guard: which step follows from a finding at which tier, and from a monitor's failing. Data."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec

from lathe.guard.reviewed import content_hash, read_reviewed
from lathe.guard.taxonomy import LEVELS, Concern, Level, Taxonomy
from lathe.guard.taxonomy import shipped as shipped_taxonomy
from lathe.protocol.errors import ConfigError
from lathe.protocol.trust import TIERS, Retention, Surface, Tier

Step: TypeAlias = Literal["allow", "log", "hold", "withhold", "refuse", "offer", "pause", "restrict"]
STEPS: tuple[Step, ...] = ("allow", "log", "hold", "withhold", "offer", "refuse", "pause", "restrict")
"""What can follow, the mildest first."""
SEVERITY: dict[str, int] = {step: rank for rank, step in enumerate(STEPS)}
BLOCKS: frozenset[str] = frozenset({"withhold", "offer", "refuse", "pause", "restrict"})
"""The steps after which something is not served."""
MonitorState: TypeAlias = Literal["ok", "late", "wrong", "dead", "flooded"]
"""How a monitor did: in time; too late; with an answer that makes no sense; not at all; or with more than it takes."""
FAILINGS: tuple[MonitorState, ...] = ("late", "wrong", "dead", "flooded")
Kind: TypeAlias = Literal["text", "flagged", "act"]
KINDS: tuple[Kind, ...] = ("text", "flagged", "act")

SHIPPED = Path(__file__).parent / "policy.yaml"
_CONCERNS: tuple[Concern, ...] = ("misuse", "agent", "injection")


class Thresholds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From which score a finding decides or is a doubt, and how far its monitor must trust it to decide."""

    decides: float
    doubts: float
    confidence: float

    @property
    def sound(self) -> bool:
        """Whether they are figures from 0 to 1 in the right order."""
        return 0 < self.doubts <= self.decides <= 1 and 0 <= self.confidence <= 1


class MonitorRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What counts of a monitor. `thresholds` are its own, where it has some."""

    judges: bool
    states: dict[MonitorState, dict[Kind, Step]]
    needed_for: tuple[Kind, ...] = ()
    thresholds: Thresholds | None = None


class Doubt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What follows when it is not sure that an act is of a clause."""

    text: Step = "log"
    act: Step = "log"


class LevelRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What follows at one level of the taxonomy."""

    allowed: Step
    outside: dict[Tier, Step] = {}
    doubt: Doubt = Doubt()


class HoldRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long something waits at most, in seconds, and what follows then."""

    longest_s: int
    then: Step


class Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A situation, as plain data, that must come to a step; a `why` says who asked for it."""

    name: str
    situation: dict[str, Any]
    step: Step
    clause: str = ""
    why: str = ""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    thresholds: Thresholds
    monitors: dict[str, MonitorRule]
    steps: dict[Concern, dict[Level, LevelRule]]
    only_read: Step
    holds: dict[Kind, HoldRule]
    pause_after: int
    cases: tuple[Case, ...]
    surfaces: dict[Surface, dict[Step, Step]] = {}
    retention: dict[Retention, dict[Step, Step]] = {}
    ungated: dict[Step, Step] = {}


class Policy:
    """One state of all rules, with the taxonomy that they speak of. `hash` names both in decisions."""

    def __init__(self, file: _File, taxonomy: Taxonomy, name: str = "the policy") -> None:
        self.version = file.version
        self.taxonomy = taxonomy
        self.thresholds = file.thresholds
        self.monitors = file.monitors
        self.needed = frozenset(name for name, rule in file.monitors.items() if rule.needed_for)
        self.steps = file.steps
        self.only_read = file.only_read
        self.holds = file.holds
        self.pause_after = file.pause_after
        self.ungated = file.ungated
        self.cases = file.cases
        self._instead: tuple[Mapping[Any, Mapping[Step, Step]], ...] = (file.surfaces, file.retention)
        if fault := _fault(file):
            raise ConfigError(f"{name}: {fault}.", code="guard_file")
        self.hash = content_hash([msgspec.structs.replace(file, cases=()), taxonomy.hash])

    @classmethod
    def load(cls, path: Path = SHIPPED, taxonomy: Taxonomy | None = None) -> Policy:
        """Return the policy of a file, with `taxonomy` or the one that is shipped; raise `ConfigError`.

        Its cases are not run: `lathe.guard.trial.tried` does that.
        """
        return cls(read_reviewed(path, _File), taxonomy or shipped_taxonomy(), str(path))

    def thresholds_of(self, monitor: str) -> Thresholds:
        """Return the thresholds that hold for a monitor."""
        rule = self.monitors.get(monitor)
        return rule.thresholds if rule is not None and rule.thresholds is not None else self.thresholds

    def instead(self, step: Step, surface: Surface, retention: Retention) -> Step:
        """Return the step that takes the place of `step` on a surface and with what may be kept."""
        surfaces, kept = self._instead
        step = surfaces.get(surface, {}).get(step, step)
        return kept.get(retention, {}).get(step, step)


@functools.cache
def shipped() -> Policy:
    """Return the policy that Lathe comes with; raise `ConfigError`."""
    return Policy.load()


def _fault(file: _File) -> str:
    """Return what is wrong with a policy, as a sentence without its stop; "" where nothing is."""
    thresholds = [file.thresholds, *(one.thresholds for one in file.monitors.values() if one.thresholds)]
    if not all(one.sound for one in thresholds):
        return "thresholds must be figures from 0 to 1, and doubts no greater than decides"
    if fault := _monitors_fault(file) or _steps_fault(file):
        return fault
    if missing := [kind for kind in KINDS if kind not in file.holds]:
        return f"holds does not say how long {missing[0]} waits"
    if bad := [kind for kind, hold in file.holds.items() if hold.longest_s < 1 or hold.then == "hold"]:
        return f"holds must end: {bad[0]} waits for no time or again"
    if file.ungated and (list(file.ungated) != ["offer"] or file.ungated["offer"] in BLOCKS):
        return "ungated says what an offer becomes, which is let through, and nothing else"
    if file.pause_after < 2:
        return "pause_after must be 2 or more, for one block never stops a thread"
    return ""


def _monitors_fault(file: _File) -> str:
    if "topical" in file.monitors and file.monitors["topical"].judges:
        return "the monitor topical must not judge, for a topic is no act"
    for monitor, rule in file.monitors.items():
        for state in FAILINGS:
            if missing := [kind for kind in KINDS if kind not in rule.states.get(state, {})]:
                return f"the monitor {monitor} has no step for {missing[0]} when it is {state}"
            if SEVERITY[rule.states[state]["act"]] < SEVERITY["hold"]:
                return f"the monitor {monitor} lets risky acts pass when it is {state}: hold is the mildest step there"
        if "ok" in rule.states:
            return f"the monitor {monitor} has steps for ok, from which nothing follows"
    return ""


def _steps_fault(file: _File) -> str:
    for concern in _CONCERNS:
        rules = file.steps.get(concern, {})
        for level in LEVELS:
            rule = rules.get(level)
            if rule is None:
                return f"steps of {concern} says nothing of {level}"
            if level == "benign" and (rule.allowed not in ("allow", "log") or rule.outside):
                return f"steps of {concern} stops what is benign"
            if rule.allowed in BLOCKS:
                return f"steps of {concern} at {level} stops what is allowed"
            if not rule.outside and level in ("high_risk_dual_use", "harmful"):
                return f"steps of {concern} at {level} does not say what follows outside of what is allowed"
            if rule.outside and (missing := [tier for tier in TIERS if tier not in rule.outside]):
                return f"steps of {concern} at {level} says nothing of the tier {missing[0]}"
    if file.only_read in BLOCKS:
        return "only_read stops people for what they have read"
    if "restrict" in msgspec.json.encode(msgspec.structs.replace(file, cases=())).decode():
        return "restrict is no step of a policy: two people decide that"
    return ""
