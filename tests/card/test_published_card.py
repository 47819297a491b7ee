"""The card of mend that the repository shows is what the runs packed beside it give, and so is what the README says."""

from __future__ import annotations

import json
import re
import shutil
import tarfile
from pathlib import Path

import pytest

from lathe.card.verify import verify_card

ROOT = Path(__file__).parents[2]
CARD = ROOT / "docs" / "cards" / "mend"
FIGURE = re.compile(r"\d+\.\d+ % \(\d+\.\d+ to \d+\.\d+ %\)")


@pytest.fixture
def card(tmp_path: Path) -> Path:
    """A copy of the card with its runs unpacked, as a reader has it."""
    copy = tmp_path / "mend"
    shutil.copytree(CARD, copy)
    with tarfile.open(copy / "runs.tar.xz") as archive:
        archive.extractall(copy, filter="data")
    return copy


def test_it_is_what_its_runs_give(card: Path) -> None:
    """Where this fails because thresholds or pages have changed: scripts/card_of_mend.py builds it anew."""
    issued = json.loads((card / "card.json").read_text())["issued"]
    assert verify_card(card, now=issued) == []
    journal = card / "runs" / "quixbugs" / "journal.jsonl"
    journal.write_text(journal.read_text().replace('"reward":1.0', '"reward":0.0', 1))
    assert any("journal" in said for said in verify_card(card, now=issued))


def test_the_readme_says_what_the_card_says() -> None:
    text = (ROOT / "README.md").read_text()
    section = text.partition("\n## A card\n")[2].partition("\n## ")[0]
    figures = FIGURE.findall(section)
    assert len(figures) >= 5
    told = (CARD / "card.md").read_text().replace("\N{NO-BREAK SPACE}", " ")
    assert [figure for figure in figures if figure not in told] == []
