"""How a run goes, while it goes: a bar and a few lines on a terminal, a line a trial anywhere else."""

from __future__ import annotations

import os
import sys
import time
from typing import TextIO

from lathe.evals.record import Fault, Trial
from lathe.evals.run import Phase

_EVERY_S = 0.2
_SHOWN = 6


class Progress:
    """Tells `out` of a run of `total` trials, `before` of which had ended; `live` draws over its own lines."""

    def __init__(
        self,
        total: int,
        before: list[Trial],
        out: TextIO | None = None,
        *,
        live: bool | None = None,
        quiet: bool = False,
    ) -> None:
        self._out = out or sys.stderr
        self._quiet = quiet
        self._live = not quiet and (self._out.isatty() if live is None else live)
        self._total = total
        self._ended = list(before)
        self._before = len(before)
        self._began = time.monotonic()
        self._running: dict[str, tuple[float, str]] = {}
        self._drawn = 0
        self._next = 0.0

    def begins(self, trial: str, phase: Phase) -> None:
        """See `Watcher`."""
        if phase != "waiting":
            self._running[trial] = (time.monotonic(), phase)
        self._draw()

    def says(self, trial: str, text: str) -> None:
        """See `Watcher`."""
        since, _ = self._running.get(trial, (time.monotonic(), ""))
        self._running[trial] = (since, text)
        self._draw()

    def faults(self, trial: str, fault: Fault) -> None:
        """See `Watcher`."""
        self._line(f"fault    {trial}: {fault.stage}: {fault.why}")

    def ends(self, trial: Trial) -> None:
        """See `Watcher`."""
        self._running.pop(trial.id, None)
        self._ended.append(trial)
        reward = "fault" if trial.reward is None else f"{trial.reward:g}"
        took = trial.times.agent + trial.times.verify
        if not self._live or trial.verdict == "fault":
            self._line(f"{reward:<8} {trial.id} ({trial.ended or 'not tried'}, {took:.1f} s)")
        self._draw(final=len(self._ended) == self._total)

    def close(self) -> None:
        """Take the live lines away."""
        self._clear()

    def summary(self) -> str:
        """Return where the run stands, on one line."""
        scored = [one for one in self._ended if one.reward is not None]
        passed = sum(one.passed for one in scored)
        faults = len(self._ended) - len(scored)
        mean = sum(one.reward or 0.0 for one in scored) / len(scored) if scored else 0.0
        parts = [f"{len(self._ended)}/{self._total}", f"passed {passed}", f"mean {mean:.3f}"]
        if faults:
            parts.append(f"faults {faults}")
        tokens = sum(one.cost.input_tokens + one.cost.output_tokens for one in self._ended)
        if tokens:
            parts.append(f"{tokens:,} tokens")
        usd = [one.cost.usd for one in self._ended if one.cost.usd is not None]
        if usd:
            parts.append(f"${sum(usd):.2f}")
        took, done = time.monotonic() - self._began, len(self._ended) - self._before
        if done and took > 0:
            parts.append(f"{done / took:.1f}/s" if done > took else f"{done / took * 60:.1f}/min")
            left = (self._total - len(self._ended)) * took / done
            parts.append(f"{_told(left)} left" if left else f"took {_told(took)}")
        return " · ".join(parts)

    def _line(self, text: str) -> None:
        if self._quiet:
            return
        self._clear()
        self._out.write(text + "\n")
        self._out.flush()

    def _clear(self) -> None:
        if self._drawn:
            self._out.write(f"\x1b[{self._drawn}F\x1b[J")
            self._out.flush()
            self._drawn = 0

    def _draw(self, *, final: bool = False) -> None:
        now = time.monotonic()
        if not self._live or (now < self._next and not final):
            return
        self._next = now + _EVERY_S
        self._clear()
        width = max(40, os.get_terminal_size(self._out.fileno()).columns if self._out.isatty() else 100)
        filled = round(20 * len(self._ended) / max(self._total, 1))
        lines = [f"[{'█' * filled}{'·' * (20 - filled)}] {self.summary()}"]
        shown = sorted(self._running.items(), key=lambda one: one[1][0])
        lines += [f"  {trial:<40} {now - since:5.0f} s  {text}" for trial, (since, text) in shown[:_SHOWN]]
        if len(shown) > _SHOWN:
            lines.append(f"  and {len(shown) - _SHOWN} more")
        self._out.write("".join(line[: width - 1] + "\n" for line in lines))
        self._out.flush()
        self._drawn = len(lines)


def _told(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
