"""Trials for tests, without a run."""

from __future__ import annotations

from lathe.evals.record import Times, Trial


def trial(task: str, reward: float | None, attempt: int = 1, cluster: str = "", **more) -> Trial:
    """Return a trial; a reward of None makes it a fault."""
    return Trial(
        **{
            "id": f"{task}.{attempt}",
            "task": task,
            "dataset": "d",
            "digest": "x",
            "cluster": cluster,
            "agent": "a",
            "model": "m",
            "attempt": attempt,
            "verdict": "fault" if reward is None else "scored",
            "reward": reward,
            "began": 0,
            "times": Times(total=2.0),
            **more,
        }
    )


def run(rewards: dict[str, list[float | None]], clusters: dict[str, str] | None = None) -> list[Trial]:
    """Return the trials of a run: rewards by task, one for each attempt."""
    return [
        trial(task, reward, attempt, (clusters or {}).get(task, ""))
        for task, mine in rewards.items()
        for attempt, reward in enumerate(mine, 1)
    ]
