"""The monitors of a gateway: what looks at new content, in time or not at all, and how each of them did.

What is short is looked at in the loop's own thread, for that takes less time than to hand it over; what is long, and
what was slow before, in a thread beside it. How a monitor fails (late, wrong, dead, flooded) is for the policy to say.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import msgspec

from lathe.guard.findings import Finding, Material
from lathe.guard.policy import MonitorState
from lathe.guard.reasoner import Scene
from lathe.guard.reasoner_signs import command_in

if TYPE_CHECKING:
    from lathe.guard.intel import Intel
    from lathe.guard.policy import Policy

_log = logging.getLogger(__name__)
_SHORT = 6_000
_SLOW_S = 0.5
_LATE_S = 2.0
_MOST_WAITING = 32
_DOUBT = 0.75
"""The most that a call scores which has not been made yet: a call is left out for it, and no thread rests."""


Look: TypeAlias = "Callable[[Material, Scene], Sequence[Finding]]"


class Seen(NamedTuple):
    """What monitors found, and how each did."""

    findings: tuple[Finding, ...]
    monitors: dict[str, MonitorState]


class Monitors:
    """Monitors by their names in the policy; one that is None could not be loaded.

    `late_s` is how long any of them may take.
    """

    def __init__(self, looks: dict[str, Look | None], *, late_s: float = _LATE_S) -> None:
        self._looks = looks
        self._late_s = late_s
        self._slow: set[str] = set()
        self._waiting = 0
        self._beside: ThreadPoolExecutor | None = None

    def at_once(self, material: Material, scene: Scene) -> Seen:
        """Return what is found in something short, now; who was slow before counts as late."""
        quick = {name: look for name, look in self._looks.items() if name not in self._slow}
        findings, states = self._all(material, scene, quick)
        return Seen(findings, states | dict.fromkeys(self._slow, "late"))

    async def judge(self, material: Material, scene: Scene) -> Seen:
        """Return what is found; what does not come in time is late, and what could not begin flooded."""
        length = sum(len(part.text) for part in material.parts) + sum(len(call.arguments) for call in material.calls)
        quick = {} if length > _SHORT else {name: one for name, one in self._looks.items() if name not in self._slow}
        findings, states = self._all(material, scene, quick)
        rest = {name: one for name, one in self._looks.items() if name not in quick}
        if rest:
            more, how = await self._aside(material, scene, rest)
            findings += more
            states |= how
        return Seen(findings, states)

    async def _aside(
        self, material: Material, scene: Scene, looks: dict[str, Look | None]
    ) -> tuple[tuple[Finding, ...], dict[str, MonitorState]]:
        if self._waiting >= _MOST_WAITING:
            return (), {name: "dead" if look is None else "flooded" for name, look in looks.items()}
        if self._beside is None:
            self._beside = ThreadPoolExecutor(2, "guard")
        loop = asyncio.get_running_loop()
        found: tuple[Finding, ...] = ()
        states: dict[str, MonitorState] = {}
        until = loop.time() + self._late_s
        for name, look in looks.items():  # each by itself, so that one that hangs holds up no other's answer for long
            self._waiting += 1
            task = loop.run_in_executor(self._beside, self._all, material, scene, {name: look})
            task.add_done_callback(self._done)
            done, _ = await asyncio.wait((task,), timeout=max(until - loop.time(), 0.05))
            if not done:
                states[name] = "late"
                continue
            more, how = task.result()
            found += more
            states |= how
        return found, states

    def _done(self, task: asyncio.Future[Any]) -> None:
        self._waiting -= 1

    def _all(
        self, material: Material, scene: Scene, looks: dict[str, Look | None]
    ) -> tuple[tuple[Finding, ...], dict[str, MonitorState]]:
        found: list[Finding] = []
        states: dict[str, MonitorState] = {}
        for name, look in looks.items():
            if look is None:
                states[name] = "dead"
                continue
            began = time.perf_counter()
            try:
                given = list(look(material, scene))
                states[name] = "ok" if all(isinstance(one, Finding) for one in given) else "wrong"
                found += given if states[name] == "ok" else []
            except Exception:
                _log.exception("The monitor %s failed.", name)
                states[name] = "dead"
            self._time(name, time.perf_counter() - began)
        return tuple(found), states

    def _time(self, name: str, took: float) -> None:
        """Have who is slow look beside the loop, until it is quick again."""
        if took > _SLOW_S and name not in self._slow:
            _log.warning("The monitor %s is slow, and looks beside the loop from now on.", name)
            self._slow.add(name)
        elif took < _SLOW_S / 5:
            self._slow.discard(name)

    @property
    def loaded(self) -> frozenset[str]:
        """The names of those that could be loaded."""
        return frozenset(name for name, look in self._looks.items() if look is not None)

    def close(self) -> None:
        """Wait for nobody."""
        if self._beside is not None:
            self._beside.shutdown(wait=False, cancel_futures=True)


def shipped_monitors(policy: Policy, intel: Intel | None = None) -> Monitors:
    """Return the monitors that Lathe comes with; one that can't be loaded is dead, and said so in the log.

    With `intel`, acts are held against what is known from others too, as it stands at the time.
    """
    looks: dict[str, Look | None] = dict.fromkeys(("topical", "reasoner", "acts", "secrets"))
    for load in (_topics, _acts, _secrets):
        try:
            looks |= load(policy, intel)
        except Exception:
            _log.exception("A monitor of the guard can't be loaded.")
    return Monitors(looks)


def _topics(policy: Policy, intel: Intel | None) -> dict[str, Look]:
    from lathe.guard.reasoner import Reasoner
    from lathe.guard.topical import TopicalMonitor

    topical = TopicalMonitor.load()
    reasoner = Reasoner(topical, policy.taxonomy)
    return {"topical": lambda material, _: topical.findings(material), "reasoner": reasoner.judge}


def _acts(policy: Policy, intel: Intel | None) -> dict[str, Look]:
    from lathe.guard.acts.monitor import ActMonitor, shipped_rules

    shipped = ActMonitor(shipped_rules())

    def look(material: Material, _: Scene) -> list[Finding]:
        commands = [(call.id, command) for call in material.calls if (command := command_in(call.arguments))]
        if not commands:
            return []
        monitor = intel.current() if intel is not None else shipped
        return [one for part, command in commands for one in monitor.look(command, part=part)]

    return {"acts": look}


def _secrets(policy: Policy, intel: Intel | None) -> dict[str, Look]:
    from lathe.guard.secrets_monitor import SecretsMonitor

    monitor = SecretsMonitor()

    def look(material: Material, _: Scene) -> list[Finding]:
        if material.calls and not material.parts:  # of an answer; `recent` is what it could have its secrets from
            found = monitor.sent(material.calls, material.recent, only_read=True)
            return [msgspec.structs.replace(one, score=min(one.score, _DOUBT)) for one in found]
        return monitor.findings(msgspec.structs.replace(material, calls=()))

    return {"secrets": look}
