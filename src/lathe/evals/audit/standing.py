"""The four standing checks of a task: does it measure anything, can it be solved, does it give in, is it steady?"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from lathe.evals.record import Trial

CHEATER = Path(__file__).with_name("cheater.sh")
"""The blind cheater, to be run as an agent in a trial."""

Check: TypeAlias = Literal["no-op", "oracle", "cheater", "again"]
State: TypeAlias = Literal["holds", "fails", "unknown"]
NOOP, ORACLE, CHEATS = "noop", "oracle", f"script:{CHEATER.name}"


class Standing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the checks say of a task: each one's state, and a sentence for each that fails or isn't known."""

    task: str
    states: dict[Check, State]
    wrong: tuple[str, ...]
    unknown: tuple[str, ...]

    @property
    def sound(self) -> bool:
        """Whether all of them hold."""
        return all(state == "holds" for state in self.states.values())


def standing_checks(trials: Iterable[Trial]) -> list[Standing]:
    """Return what trials by the no-op, the oracle (twice at least) and the cheater say of their tasks, by name."""
    tasks: dict[str, list[Trial]] = {}
    for trial in trials:
        tasks.setdefault(trial.task, []).append(trial)
    return [_standing(task, sorted(mine, key=lambda one: one.attempt)) for task, mine in sorted(tasks.items())]


def _standing(task: str, trials: list[Trial]) -> Standing:
    oracle = [trial for trial in trials if trial.agent == ORACLE]
    solved = [trial for trial in oracle if trial.reward is not None]
    first, others = solved[:1], solved[1:]
    found: dict[Check, tuple[State, str]] = {
        "no-op": _all_get(0.0, [trial for trial in trials if trial.agent == NOOP], "doing nothing"),
        "oracle": _all_get(1.0, first or oracle[:1], "the task's own solution"),
        "cheater": _all_get(0.0, [trial for trial in trials if trial.agent == CHEATS], "the blind cheater"),
        "again": _again(first, others),
    }
    return Standing(
        task,
        {check: state for check, (state, _) in found.items()},
        tuple(why for state, why in found.values() if state == "fails"),
        tuple(why for state, why in found.values() if state == "unknown"),
    )


def _all_get(wanted: float, trials: list[Trial], who: str) -> tuple[State, str]:
    rewards = [trial.reward for trial in trials if trial.reward is not None]
    if not rewards:
        faults = [fault.why for trial in trials for fault in trial.faults]
        return "unknown", f"Not tried with {who}: {faults[-1] if faults else 'there is no such trial.'}"
    missed = next((reward for reward in rewards if reward != wanted), None)
    if missed is None:
        return "holds", ""
    return "fails", f"The reward for {who} is {missed:g}, not {wanted:g}."


def _again(first: list[Trial], others: list[Trial]) -> tuple[State, str]:
    if not first or not others:
        return "unknown", "The solution was not tried twice."
    before = _rewards(first[0])
    for trial in others:
        after = _rewards(trial)
        if after != before:
            return "fails", f"The same solution got {_told(before)} and then {_told(after)}."
    if len({trial.digest for trial in (*first, *others)}) > 1:
        return "unknown", "The task changed between the two tries of its solution."
    return "holds", ""


def _rewards(trial: Trial) -> dict[str, float]:
    return trial.rewards or {"reward": trial.reward or 0.0}


def _told(rewards: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in sorted(rewards.items()))
