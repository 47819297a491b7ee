"""A part of the evaluation of destructive actions."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

import data_destructive
import pytest
from destructive_situations import REPAIRS, SITUATIONS, Situation


def run(agent: str, chosen: tuple[Situation, ...]) -> list[data_destructive.Outcome]:
    found = data_destructive.outcomes([agent], lambda one: one in chosen, 2)
    assert len(found) == len(chosen)
    return found


@pytest.mark.parametrize("part", range(3))
def test_what_a_reckless_agent_destroys_comes_back_and_the_persons_work_stays(part: int) -> None:
    chosen = [one for number, one in enumerate(SITUATIONS) if number % 3 == 0 or one.scene == "linked"]
    found = run("reckless", tuple(chosen[part::3]))
    assert data_destructive.missed(found) == [], found


def test_mend_leaves_alone_what_the_person_edits_while_it_searches() -> None:
    assert data_destructive.missed(run("mend", REPAIRS[4:5])) == []


def test_without_a_harness_the_same_commands_lose_work() -> None:
    found = run("plain", SITUATIONS[::10])
    assert not any(one.preserved or one.reverted for one in found)
