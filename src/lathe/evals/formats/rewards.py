"""What a verifier gave: `reward.json` or `reward.txt` in its folder, read as Harbor reads them; and flags.

Where both are there, `reward.json` counts (Harbor's `verifier.py`). A reward that can't be trusted is a fault of the
verifier, never a 0: empty, not a number, not finite, not a regular file.
"""

from __future__ import annotations

import math
import os
import stat
from pathlib import Path
from typing import Any

from lathe.evals.task import VerifierSpec

LIMIT = 2**20


class RewardError(Exception):
    """The verifier left no reward that counts; the text says why in a sentence."""


def read_rewards(folder: Path) -> dict[str, float]:
    """Return the rewards by name, at least one and each finite; that of `reward.txt` is named `reward`.

    Raises `RewardError`.
    """
    for name, parse in (("reward.json", _named), ("reward.txt", _single)):
        data = _content(folder / name)
        if data is not None:
            return parse(name, data)
    raise RewardError("The verifier left neither reward.json nor reward.txt.")


def flag_reward(spec: VerifierSpec, answer: str) -> float:
    """Return 1.0 where the answer gives the verifier's flag as its rule says, else 0.0."""
    if not spec.flag:
        return 0.0
    if spec.flag_rule == "contained":
        return float(spec.flag in answer)
    last = next((line.strip() for line in reversed(answer.splitlines()) if line.strip()), "")
    if spec.flag_rule == "last-line-any-case":
        return float(last.lower() == spec.flag.lower())
    return float(last == spec.flag)


def _content(path: Path) -> bytes | None:
    """Return what the file holds; None where there is none. It is what the agent's machine left: a link is no file."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RewardError(f"{path.name} can't be read: {error.strerror}.") from None
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise RewardError(f"{path.name} is no regular file.")
        with os.fdopen(handle, "rb", closefd=False) as file:
            data = file.read(LIMIT + 1)
    finally:
        os.close(handle)
    if not data:
        raise RewardError(f"{path.name} is empty.")
    if len(data) > LIMIT:
        raise RewardError(f"{path.name} is larger than {LIMIT} bytes.")
    return data


def _single(name: str, data: bytes) -> dict[str, float]:
    try:
        value = float(data.decode("utf-8"))
    except ValueError:
        raise RewardError(f"{name} holds no number.") from None
    return {"reward": _finite(name, "reward", value)}


def _named(name: str, data: bytes) -> dict[str, float]:
    import json

    try:
        values: Any = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError):
        raise RewardError(f"{name} is no JSON.") from None
    if not isinstance(values, dict) or not values:
        raise RewardError(f"{name} holds no rewards by name.")
    return {key: _finite(name, key, value) for key, value in values.items()}


def _finite(name: str, key: str, value: Any) -> float:
    if not isinstance(value, (int, float)):
        raise RewardError(f"{name} gives no number for {key[:60]!r}.")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise RewardError(f"{name} gives no finite number for {key[:60]!r}.")
    return number
