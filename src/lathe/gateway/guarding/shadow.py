"""Shadow mode: a policy that is not in force yet decides all the same, and what it would change is counted and kept.

Situations that it decides otherwise are lines of a file that `lathe guard policy diff` and `replay` read; they hold no
text that was judged.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import IO

from lathe.guard.ladder import Measure, Situation, decide
from lathe.guard.policy import Policy
from lathe.guard.trial import recorded
from lathe.protocol.ids import short_id

_log = logging.getLogger(__name__)
_MOST_BYTES = 64 << 20


class Shadow:
    """Compares a policy with the one in force. `counts` says how often a step would have been another."""

    def __init__(self, policy: Policy, path: Path) -> None:
        self.policy = policy
        self.counts: dict[tuple[str, str], int] = {}
        self._path = path
        self._file: IO[bytes] | None = None

    def compare(self, situation: Situation, measure: Measure, at: int) -> None:
        """Decide a situation anew; `measure` is what followed, `at` when, in milliseconds."""
        other = decide(self.policy, situation)
        key = (measure.step, other.step)
        self.counts[key] = self.counts.get(key, 0) + 1
        if (other.step, other.clause) != (measure.step, measure.clause):
            self._keep(recorded(situation, short_id("sit"), at))

    def _keep(self, line: bytes) -> None:
        try:
            if self._file is None:
                self._file = self._path.open("ab")
            if self._file.tell() < _MOST_BYTES:
                self._file.write(line)
                self._file.flush()
        except OSError as error:
            _log.warning("What another policy would change can't be kept: %s.", error.strerror)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
