"""The card: built from runs, verified against them, and with no place for a figure that somebody typed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec
import pytest
from finished import model_runs, plan, write

from lathe.card import contents
from lathe.card.build import build_card
from lathe.card.contents import Behind, Paragraph, Section
from lathe.card.figures import Counted, FromTrials, Named, NoFigure, OfPublished, OfThreshold, Part, Words, shown
from lathe.card.markdown import as_markdown
from lathe.card.page import as_page
from lathe.card.places import Places
from lathe.card.readings import Finished, Reading
from lathe.card.sources import CardSources
from lathe.card.thresholds import SHIPPED, Estimate, Published, shipped
from lathe.card.verify import verify_card
from lathe.cli.main import main
from lathe.evals.agents.base import Served
from lathe.evals.journal import Ended, RunFolder
from lathe.evals.record import Flag

DAY = 86_400_000
ISSUED = 1_795_000_000_000
BENIGN = {
    "at": 1_790_000_000.0,
    "figures": {
        "malicious": {"blocked": 95, "texts": 100},
        "ordinary": {"blocked": 0, "texts": 5000},
        "security work": {"blocked": 3, "texts": 400},
    },
    "sources": {},
}
REPORT = {
    "at": 1_790_000_000_000,
    "since": 1_782_000_000_000,
    "days": 90,
    "appeals": {
        "decided": 40,
        "in_time": 39,
        "overturned": {"rate": 0.25, "low": 0.1, "high": 0.4},
        "median_hours": 7.5,
    },
    "decisions": {"requests": 120_000, "blocked": "fewer than 5", "share_blocked": None},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs, evidence and a card of them."""
    folder = tmp_path_factory.mktemp("made")
    runs = model_runs(folder / "runs", "m", able=True, reckless=True)
    (folder / "benign.json").write_text(json.dumps(BENIGN))
    (folder / "report.json").write_text(json.dumps(REPORT))
    evidence = [folder / "benign.json", folder / "report.json"]
    build_card(runs, folder / "card", model="m", issued=ISSUED, evidence=evidence)
    return folder


@pytest.fixture
def copied(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "copy"))


def verified(folder: Path, now: int = ISSUED + DAY) -> list[str]:
    return verify_card(folder / "card", now=now)


def test_a_card_is_what_its_journals_give_wherever_both_lie(copied: Path) -> None:
    assert verified(copied) == []


def test_a_card_says_what_was_found_and_looked_up(made: Path) -> None:
    for name in ("card.html", "card.md"):
        text = (made / "card" / name).read_text().replace("\u00a0", " ").replace("\\", "")
        for said in (
            *("cannot rule out", "reached", "not measured"),
            *("95.0 % (88.7 to 98.4 %): 95 of 100", "0.0 % (0.0 to 0.07 %): 0 of 5,000"),
            *("120,000", "fewer than 5", "not given", "25.0 %", "7.5 hours"),
            *("api from organisation, cli from verified, ide from verified", "GPT-5.3-Codex 88.0 % (High)"),
        ):
            assert said in text, (name, said)


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[tuple[str, str]] = []
        self._kind = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids |= {given["id"]} if "id" in given else set()
        if tag == "a":
            self.links.append((given["href"], given.get("class", "")))


def test_every_figure_leads_to_its_trials_and_each_trial_to_report_and_journal(made: Path) -> None:
    page = Links()
    page.feed((made / "card" / "card.html").read_text())
    inner = {href[1:] for href, _ in page.links if href.startswith("#")}
    assert inner <= page.ids
    assert sum(kind == "figure" for _, kind in page.links) > 20
    trials = [href for href, _ in page.links if "report.html" in href]
    assert len(trials) == 480 + 102 + 240 + 40 * 3 + 40
    lines = [href for href, _ in page.links if "journal.jsonl" in href]
    for report, journal in list(zip(trials, lines, strict=True))[::97]:
        path, _, line = journal.partition("#L")
        record = (made / "card" / path).read_bytes().splitlines()[int(line) - 1]
        ended = msgspec.json.decode(record, type=Ended)
        assert unquote(report).endswith(f"report.html#/trial/{ended.trial.id}")


def edit(name: str, old: str, new: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / name
        text = path.read_text()
        assert old in text, name
        path.write_text(text.replace(old, new, 1))

    return spoil


def rerun(folder: Path) -> None:
    """Have one trial end otherwise, as a run that is gone on with does."""
    run = RunFolder(folder / "runs" / "run-m-cve-bench")
    [trial] = [one for one in run.trials() if one.id == "task-033.1"]
    run.open()
    run.append(Ended(0, msgspec.structs.replace(trial, reward=1.0)))
    run.close()


RUN = "runs/run-m-cybench"
SPOILED: dict[str, tuple[Callable[[Path], object], str]] = {
    "edited page": (edit("card/card.html", "cannot rule out", "below"), "card.html has been edited"),
    "edited text": (edit("card/card.md", "cannot rule out", "below"), "card.md has been edited"),
    "edited safeguards": (edit("card/safeguards.json", "organisation", "default"), "safeguards.json has been edited"),
    "edited record": (edit("card/card.json", '"value": 1.0', '"value": 0.5'), "in the card, and"),
    "edited class": (edit("card/card.json", "cannot_rule_out", "below"), "The category cyber is below in the card"),
    "edited time": (
        edit("card/card.json", f'"issued": {ISSUED}', f'"issued": {ISSUED - 1}'),
        "card.json has been edited",
    ),
    "edited thresholds": (
        edit("card/thresholds.yaml", "figure: 0.88", "figure: 0.99"),
        "thresholds.yaml is not the file",
    ),
    "edited evidence": (edit("card/evidence/benign_block.json", "95", "99"), "The figure benign_block.recall is 0.95"),
    "no page": (lambda folder: (folder / "card" / "card.html").unlink(), "card.html is gone"),
    "no evidence": (lambda folder: (folder / "card/evidence/report.json").unlink(), "evidence/report.json is gone"),
    "no run": (lambda folder: shutil.rmtree(folder / RUN), "The run run-m-cybench is not at ../runs/run-m-cybench"),
    "another trial": (rerun, "The figure consistency on cve-bench 1.0 is 0.9706"),
    "journal": (edit(f"{RUN}/journal.jsonl", '"reward":1.0', '"reward":0.0'), "The journal of the run run-m-cybench"),
    "damaged": (edit(f"{RUN}/journal.jsonl", '{"kind":"ended"', '{"kind":"ende'), "lines that can't be read"),
    "plan": (edit(f"{RUN}/plan.json", '"attempts": 12', '"attempts": 13'), "The plan of the run run-m-cybench"),
    "trial file": (
        lambda folder: (folder / RUN / "trials/task-001.1/agent.log").write_text("another"),
        "The files of the trial task-001.1 of the run run-m-cybench have changed",
    ),
    "new file": (
        lambda folder: (folder / RUN / "trials/task-001.1/more").write_text(""),
        "The files of the trial task-001.1",
    ),
    "another run": (
        lambda folder: edit(f"{RUN}/plan.json", '"run-m-cybench"', '"run-9"')(folder),
        "In the place of the run run-m-cybench lies the run run-9",
    ),
}


@pytest.mark.parametrize("name", SPOILED)
def test_whatever_is_changed_is_told(
    name: str, copied: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil, sentence = SPOILED[name]
    spoil(copied)
    found = verified(copied)
    assert any(sentence in one for one in found), found
    assert all(one.endswith(".") and "\n" not in one for one in found)
    monkeypatch.setattr("lathe.store.journal.now_ms", lambda: ISSUED + DAY)
    assert main(["card", "verify", str(copied / "card")]) == 1
    assert sentence in capsys.readouterr().out


def test_a_card_is_stale_when_its_time_is_over_or_lathes_thresholds_have_moved(
    copied: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert any("held until" in one for one in verified(copied, ISSUED + 91 * DAY))
    newer = tmp_path / "newer.yaml"
    newer.write_text(SHIPPED.read_text().replace("version: 1\n", "version: 2\n", 1))
    thresholds = type(shipped()).load(newer)
    monkeypatch.setattr("lathe.card.verify.shipped", lambda: thresholds)
    assert verified(copied) == ["Lathe's thresholds have changed since the card was built."]


def test_doubt_is_said_beside_each_figure(tmp_path: Path) -> None:
    odd: dict[int, dict[str, Any]] = {
        0: {"verdict": "fault"},
        1: {"reward": 1.0, "served": (Served("m", "n", 1, "fallback:down"),)},
        2: {"reward": 1.0, "flags": (Flag("tests", 0.9, "read"),)},
        3: {"reward": 1.0, "standins": ("debian",)},
    }
    run = write(tmp_path, plan("cve-bench", tasks=20), lambda task, _: None if task == 4 else odd.get(task, 1.0))
    build_card([run], tmp_path / "card", model="m", issued=ISSUED)
    text = (tmp_path / "card" / "card.md").read_text()
    doubts = ("1 infrastructure faults", "1 missing", "14 tasks left out", "1 served by another model")
    assert ", ".join((*doubts, "1 flagged by the audit", "1 with stand-ins")) in text
    assert re.search(r"task-000.1: no reward; infrastructure faults", text)


# --- no figure is typed


@pytest.fixture(scope="module")
def of(made: Path) -> CardSources:
    runs = sorted((made / "runs").iterdir())
    return CardSources(runs, model="m", issued=ISSUED, thresholds=shipped())


@pytest.mark.parametrize("text", ["88", "pass@12", "88 %", "ninety percent", "four of ½", "Ⅷ", "x²", "٣", 0.88, None])
def test_words_take_no_figure(text: Any) -> None:
    with pytest.raises(NoFigure):
        Words(text)


def typed(of: CardSources) -> Iterator[Any]:
    """Yield attempts to have a figure printed that no journal gives."""
    measure = of.thresholds.categories[0].measures[0]
    run = of.runs[0]
    better = tuple(msgspec.structs.replace(one, reward=1.0) for one in run.trials)
    made_up = Reading("d", Estimate("mean"), [Finished(run.plan, better)], tasks=0, level=0.95, doubt_from=0.5)
    yield from ("88 %", 0.88, 88, None, ("88 %",))
    yield FromTrials(made_up)
    yield FromTrials(0.88)  # type: ignore[arg-type]
    yield OfPublished(Published("m", 0.99))
    yield OfThreshold(msgspec.structs.replace(measure, figure=0.99))
    yield Named(msgspec.structs.replace(run.plan, id="88 %"), "id")
    yield Named("88 %", "text")  # type: ignore[arg-type]
    yield Counted([1, 2, 3])

    class Own(Words):
        def __init__(self, text: str) -> None:
            self.text = text

    yield Own("88 %")
    changed = Words("a figure")
    changed.text = "88 %"
    yield changed


def test_a_card_prints_nothing_but_what_its_sources_give(of: CardSources, monkeypatch: pytest.MonkeyPatch) -> None:
    places = Places(of, Path("/card"))
    assert "reached" in as_page(of, places)
    for attempt in typed(of):
        with pytest.raises(NoFigure):
            shown(attempt, of)
        for block in (Paragraph((attempt,)), *([Behind(attempt.reading)] if isinstance(attempt, FromTrials) else [])):
            section = Section("x", 1, (Words("Typed"),), (block,))
            for name, rendered in (("page", as_page), ("markdown", as_markdown)):
                monkeypatch.setattr(f"lathe.card.{name}.sections", lambda of, section=section: [section])
                with pytest.raises(NoFigure):
                    rendered(of, places)


def test_no_part_of_a_card_can_hold_a_number() -> None:
    """What the types say: no field of a part is a number, but which of several readings is meant."""
    from typing import get_args, get_type_hints

    for part in get_args(Part):
        if part is Words:
            continue
        hints = get_type_hints(part, vars(__import__("lathe.card.figures", fromlist=["x"])))
        numbers = [name for name, hint in hints.items() if {int, float} & {hint, *get_args(hint)}]
        assert numbers in ([], ["reading"]), (part, numbers)
    assert contents.Cell.__args__[0] == Part  # type: ignore[attr-defined]


# --- the command


def test_what_can_not_be_built_is_told_in_a_sentence(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = str(made / RUN), str(tmp_path / "card")
    (tmp_path / "odd.json").write_text('{"recall": 0.99}')
    for arguments, sentence in (
        ([run, "--model", "n"], "is of 'm', not of 'n'"),
        ([run, run, "--model", "m"], "is given twice"),
        ([str(tmp_path), "--model", "m"], "is not a run"),
        ([run, "--model", "m", "--evidence", str(tmp_path / "odd.json")], "is of no kind that is known"),
        ([run, "--model", "m", "--evidence", str(tmp_path / "none.json")], "can't be read"),
        ([run, "--model", "m", "--thresholds", str(tmp_path / "odd.json")], "is not what it should be"),
    ):
        assert main(["card", "build", *arguments, "--out", out]) == 2
        assert sentence in capsys.readouterr().err
        assert not Path(out).exists()
    assert main(["card", "verify", out]) == 2
    assert "There is no card" in capsys.readouterr().err
