"""The verifier's part of a trial: what of the agent's counts, where it is judged, and the rewards that come of it.

Tests and rewards have folders that are the verifier's own: nothing that the agent put there is in them, and nothing
that it left running sees them. A task may say that it is judged in a place of its own (`VerifierSpec.carried`); then
programs, settings and processes that the agent left don't count either.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from lathe.evals.environments.base import Environment, Ran
from lathe.evals.formats.rewards import RewardError, flag_reward, read_rewards
from lathe.evals.record import Fault
from lathe.evals.task import Task

_NOTES = "/logs/interim"
_SHELLS = {"bash": "/bin/bash", "sh": "/bin/sh"}
"""Shells by their whole names: what an agent put into a folder of PATH under their names is none."""


class TrialFault(Exception):
    """The infrastructure failed; says at which stage, and what."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.why)
        self.fault = fault


async def judge(
    task: Task, answer: str, place: Environment, make: Callable[[], Environment], folder: Path
) -> dict[str, float]:
    """Return the rewards by name for what the agent answered and left in `place`; raise `TrialFault`.

    `make` gives another place like it. What the verifier wrote and printed is kept in `verifier` of `folder`.
    """
    spec = task.verifier
    if spec.flag:
        return {"reward": flag_reward(spec, answer)}
    if not spec.carried:
        await place.hand_over(end=spec.leftovers == "ended")
        return await _verified(task, place, folder)
    with tempfile.TemporaryDirectory(prefix=".carried-", dir=folder) as held:
        taken = [Path(held, str(number)) for number in range(len(spec.carried))]
        there = [await place.get(path, here) for path, here in zip(spec.carried, taken, strict=True)]
        fresh = make()
        try:
            await place.stop()
            await fresh.start()
            # what the agent removed is not there either
            await fresh.run(["/bin/rm", "-rf", "--", *spec.carried], cwd="/", timeout_s=60, user="root")
            for path, here, found in zip(spec.carried, taken, there, strict=True):
                if found:
                    await fresh.put(here, path)
            return await _verified(task, fresh, folder)
        finally:
            await fresh.stop()


async def note(task: Task, place: Environment, folder: Path) -> Path:
    """Run the verifier's `interim`; return the folder of its notes, out of the agent's reach. Raises `TrialFault`."""
    await _drop_notes(place)
    ran = await _ran(task, place, task.verifier.interim)
    noted = folder / "interim"
    await place.get(_NOTES, noted)
    if ran.code or not noted.is_dir():
        raise TrialFault(Fault("verify", f"What the agent left could not be noted: {last_words(ran.output)}"))
    # the agent goes on, and finds neither the tests nor the notes
    await place.run(["/bin/sh", "-c", f"rm -rf {_NOTES} /tests/* /tests/.[!.]*"], cwd="/", timeout_s=60, user="root")
    return noted


async def bring_back(place: Environment, noted: Path) -> None:
    """Put the notes of `note` back to where the verifier looks for them, over whatever lies there."""
    await _drop_notes(place)
    await place.put(noted, _NOTES)


async def _drop_notes(place: Environment) -> None:
    await place.run(["/bin/rm", "-rf", _NOTES], cwd="/", timeout_s=60, user="root")


async def _ran(task: Task, place: Environment, command: Sequence[str]) -> Ran:
    """Put the tests where they belong, run one of the verifier's commands, and return how that ended."""
    spec = task.verifier
    if spec.tests is not None:
        await place.put(spec.tests, "/tests")
    program, *words = command
    return await place.run(
        [_SHELLS.get(program, program), *words],
        cwd=task.environment.workdir,
        env={**task.environment.env, **spec.env},
        user=spec.user,
        timeout_s=spec.timeout_s,
        network=task.network("verifier"),
    )


async def _verified(task: Task, place: Environment, folder: Path) -> dict[str, float]:
    spec = task.verifier
    ran = await _ran(task, place, spec.command)
    kept = folder / "verifier"
    await place.get("/logs/verifier", kept)
    kept.mkdir(exist_ok=True)
    (kept / "output.txt").write_bytes(ran.output)
    if ran.killed == "time":
        raise TrialFault(Fault("verify", f"The verifier did not end within {spec.timeout_s:g} s."))
    try:
        return read_rewards(kept)
    except RewardError as error:
        why = f"{error} The verifier ended with exit code {ran.code}: {last_words(ran.output)}"
        raise TrialFault(Fault("verify", why)) from None


def last_words(output: bytes) -> str:
    """Return the last words of an output, on one line."""
    words = " ".join(output[-600:].decode(errors="replace").split())
    return words[-300:] or "it printed nothing."
