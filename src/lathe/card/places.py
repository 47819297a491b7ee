"""Where what stands behind a figure is found: the trials of a reading, in report and journal of their runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from lathe.card.figures import SHOWN_DOUBT
from lathe.card.readings import Outcome, Reading
from lathe.card.sources import CardSources


class Row(NamedTuple):
    """One trial as it is listed. `report` and `journal` are links relative to the card, `line` says which line."""

    trial: str
    reward: str
    doubts: str
    report: str
    journal: str
    line: str


class Places:
    """Links of a card that lies in `folder`."""

    def __init__(self, of: CardSources, folder: Path) -> None:
        self._anchors = {id(reading): f"reading-{number}" for number, reading in enumerate(of.readings, 1)}
        self._runs = {run.plan.id: run for run in of.runs}
        self._folder = folder.resolve()

    def anchor(self, reading: Reading) -> str:
        """Return the anchor at which the trials of a reading are listed."""
        return self._anchors[id(reading)]

    def run(self, id: str) -> str:
        """Return the path of a run's folder as seen from the card."""
        return Path(os.path.relpath(self._runs[id].path.resolve(), self._folder)).as_posix()

    def rows(self, reading: Reading) -> Iterator[Row]:
        """Yield the trials of a reading."""
        for one in reading.trials:
            yield self._row(one)

    def _row(self, one: Outcome) -> Row:
        assert one.trial is not None
        folder, line = quote(self.run(one.run)), self._runs[one.run].lines[one.trial.id]
        return Row(
            one.trial.id,
            "no reward" if one.value is None else f"{one.value:g}",
            ", ".join(SHOWN_DOUBT[doubt] for doubt in one.doubts),
            f"{folder}/report.html#/trial/{quote(one.trial.id)}",
            f"{folder}/journal.jsonl#L{line}",
            f"journal, line {line}",
        )
