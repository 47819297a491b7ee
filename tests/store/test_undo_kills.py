"""Kills at random in looks, patches and undos: nothing is lost, and the next start makes it good."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

import undo_kills


def test_nothing_is_lost_or_half_written_whenever_lathe_is_killed(tmp_path: Path) -> None:
    outcome = undo_kills.run(tmp_path, 60)
    assert {what: wrong for what, (_, wrong) in outcome.items() if wrong} == {}
    assert all(hits > 5 for hits, _ in outcome.values())
