"""The report of a run, before a real browser: what it shows, what it leaves out, and that nothing in it runs."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import Browser, Error, Page
from sample_runs import Thread, make_run

from lathe.evals.agents.base import Served
from lathe.evals.atif import Agent, Observation, ObservationResult, Step, ToolCall, Trajectory, write
from lathe.evals.record import Fault, Flag, Plan, Times, Trial
from lathe.evals.report import Report, build, page, write_report
from lathe.evals.report.page import as_page

SCHEMA = Path(__file__).parent / "report_schema.json"


class Reader:
    """Somebody who opens a report; `faults` is what the browser complained of, `asked` all that it loaded."""

    def __init__(self, browser: Browser, folder: Path, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.page: Page = self.context.new_page()
        self.faults: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.faults.append(message.text))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.faults.append(dialog.message), dialog.dismiss()))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.url = (folder / "report.html").as_uri()
        self.page.goto(self.url)
        self.page.wait_for_selector("html[data-ready]")

    def rows(self) -> list[str]:
        return self.page.locator("#list tbody tr").all_inner_texts()

    def open(self, trial: str) -> None:
        self.page.goto(f"{self.url}#/trial/{trial}")
        self.page.wait_for_selector(f'#trial[data-trial="{trial}"] .head')

    def tab(self, name: str) -> str:
        self.page.get_by_role("tab", name=name).click()
        return self.page.locator(".pane").text_content() or ""


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory, made: list[Thread]) -> tuple[Path, Plan, list[Trial]]:
    folder = tmp_path_factory.mktemp("runs") / "run"
    (folder.parent / "work-0").mkdir()
    for name in ("price.py", "test_price.py"):
        (folder.parent / "work-0" / name).write_text("")
    plan, trials = make_run(folder, made, 12, 3)
    write_report(folder, plan, trials)
    return folder, plan, trials


@pytest.fixture
def reader(browser: Browser, sample: tuple[Path, Plan, list[Trial]]) -> Iterator[Reader]:
    one = Reader(browser, sample[0], viewport={"width": 1280, "height": 900})
    yield one
    assert one.faults == []
    assert {url.partition("#")[0] for url in one.asked} == {one.url}
    one.context.close()


def test_the_table_is_sorted_and_filtered(reader: Reader, sample: tuple[Path, Plan, list[Trial]]) -> None:
    _, _, trials = sample
    shown, count = reader.page, reader.page.locator("#list .count")
    assert count.inner_text() == f"12 of 12 tasks, {len(trials)} trials"
    shown.get_by_role("button", name="Mean reward").click()
    means = [float(re.search(r"([\d.]+) %", row)[1]) for row in reader.rows()]  # type: ignore[index]
    assert means == sorted(means, reverse=True) and means[0] > means[-1]
    shown.get_by_role("button", name="Mean reward").click()
    assert shown.locator("th[aria-sort]").get_attribute("aria-sort") == "ascending"
    shown.get_by_role("button", name="Trials", exact=True).click()
    assert len(reader.rows()) == len(trials)
    shown.get_by_label("Outcome", exact=True).select_option("failed")
    assert len(reader.rows()) == sum(trial.reward == 0 for trial in trials)
    shown.get_by_label("Outcome", exact=True).select_option("")
    shown.get_by_label("Category", exact=True).select_option("security")
    assert len(reader.rows()) == sum(trial.category == "security" for trial in trials)
    shown.get_by_label("Filter by words").fill(f"security {trials[3].task}")
    assert all(trials[3].task in row for row in reader.rows())
    shown.get_by_label("Filter by words").fill("no such words")
    assert reader.rows() == ["Nothing is left of it with these filters."]


def test_a_trial_opens_with_its_steps_changes_terminal_and_verifier(
    reader: Reader, sample: tuple[Path, Plan, list[Trial]]
) -> None:
    trial = next(one for one in sample[2] if one.passed)
    reader.page.locator(f'a.chip[href="#/trial/{trial.id}"]').click()
    reader.page.wait_for_selector("#trial .head")
    steps = reader.page.locator(".pane").text_content() or ""
    assert "The rate is added, not applied." in steps and "$ seq 1 60" in steps
    folded = reader.page.locator("pre.folded")
    before = folded.count()
    reader.page.get_by_role("button", name=re.compile("Show all")).first.click()
    assert before and folded.count() == before - 1
    assert reader.page.locator(".diff .a").first.inner_text() == "+    return net * (1 + VAT)"
    assert "NOTES.md+3−0new file" in reader.tab("Changes")
    assert "test_gross" in reader.tab("Verifier")
    assert "100%" in reader.tab("Terminal")
    reader.page.get_by_role("button", name="Play").click()
    reader.page.get_by_role("button", name="Play").wait_for()
    screen = reader.page.locator(".glass").inner_text()
    assert "########## 100%" in screen and "Done in 0.4 s" in screen
    assert reader.page.locator(".glass span.b").all_inner_texts() == ["Done"]
    reader.page.get_by_label("Position").evaluate("one => { one.value = 0; one.dispatchEvent(new Event('input')) }")
    assert "Done" not in reader.page.locator(".glass").inner_text()
    reader.page.get_by_role("link", name="Next").click()
    reader.page.wait_for_selector(f'#trial:not([data-trial="{trial.id}"])')
    reader.page.keyboard.press("Escape")
    reader.page.wait_for_selector("#list")
    assert reader.page.locator("#trial").is_hidden()


def test_a_narrow_page_does_not_scroll_sideways(browser: Browser, sample: tuple[Path, Plan, list[Trial]]) -> None:
    for scheme in ("light", "dark"):
        one = Reader(browser, sample[0], viewport={"width": 400, "height": 800}, color_scheme=scheme)
        assert one.page.evaluate("document.documentElement.scrollWidth") == 400
        one.open(next(trial.id for trial in sample[2] if trial.passed))
        for name in ("Changes", "Terminal", "Verifier", "Steps"):
            one.tab(name)
            assert one.page.evaluate("document.documentElement.scrollWidth") == 400
        one.context.close()


def test_the_markdown_and_the_json_say_the_same(sample: tuple[Path, Plan, list[Trial]]) -> None:
    folder, plan, trials = sample
    report = msgspec.json.decode((folder / "report.json").read_bytes(), type=Report)
    assert report == build(plan, trials)
    said = (folder / "report.md").read_text()
    assert f"{report.summary.mean * 100:.1f} %" in said  # type: ignore[operator]
    assert said.count("\n| ") >= len(report.tasks)
    assert report.notes and all(f"- {note[:40]}" in said for note in report.notes)


def test_the_form_of_the_json_is_the_one_that_was_published() -> None:
    schema = json.loads(json.dumps(msgspec.json.schema(Report)))
    if os.environ.get("UPDATE_GOLDEN"):
        SCHEMA.write_text(json.dumps(schema, indent=1, sort_keys=True) + "\n")
    assert schema == json.loads(SCHEMA.read_text())


HOSTILE = [
    "<script>window.pwned=1</script>",
    '"><img src=x onerror="window.pwned=2">',
    "</script><script>window.pwned=3</script>",
    "<!--<script>",
    "javascript:window.pwned=4",
    "<svg onload=window.pwned=5>",
    "</title></style></textarea><iframe srcdoc='<script>parent.pwned=6</script>'>",
    "\x1b]8;;javascript:window.pwned=7\x07link\x1b]8;;\x07",
    "<base href=//evil.example><link rel=stylesheet href=//evil.example/x.css>",
    "]]>--><a href='data:text/html,<script>top.pwned=8</script>'>x</a>",
    "\u202egnp.exe\u2066",
]


def hostile_run(folder: Path, texts: list[str]) -> tuple[Plan, list[Trial]]:
    """Write a run in which every text is one of `texts`."""
    trials = []
    for number, text in enumerate(texts):
        own = folder / "trials" / f"t{number}.1"
        (own / "verifier").mkdir(parents=True, exist_ok=True)
        call = ToolCall("c", text, {"cmd": text, text: text})
        step = Step(
            step_id=2,
            source="agent",
            message=text,
            reasoning_content=text,
            model_name=text,
            tool_calls=(call, ToolCall("d", "x", {"cmd": text})),
            observation=Observation((ObservationResult("c", text, extra={"diff": text, text: text}),)),
            extra={text: text},
        )
        asked = Step(step_id=1, source="user", message=text)
        done = Trajectory(schema_version="ATIF-v1.7", agent=Agent(text, text), steps=(asked, step))
        (own / "trajectory.json").write_bytes(write(done))
        (own / "diff.patch").write_text(
            f"diff --git a/{text} b/{text}\n--- a/{text}\n+++ b/{text}\n@@ -1 +1 @@\n-{text}\n+x\n"
        )
        (own / "changes.json").write_text(json.dumps([{"path": text, "how": text}]))
        (own / "terminal.jsonl").write_text(json.dumps([0, "o", text]) + "\n")
        (own / "verifier" / "output.txt").write_text(text)
        (own / "verifier" / "ctrf.json").write_text(
            json.dumps({"results": {"tests": [{"name": text, "status": text, "message": text}]}})
        )
        (own / "agent.log").write_text(text)
        trials.append(
            Trial(
                id=f"t{number}.1",
                task=text,
                dataset=text,
                digest=text,
                cluster=text,
                agent=text,
                model=text,
                attempt=1,
                verdict="scored",
                reward=0.5,
                began=1,
                times=Times(total=1.0),
                ended=text,
                rewards={text: 0.5},
                answer=text,
                served=(Served(text, text, 1, text or "x"),),
                faults=(Fault(text, text),),
                standins=(text,),
                environment=text,
                flags=(Flag(text, 0.5, text, text),),
                why=text,
                category=text,
            )
        )
    named = texts[0] if texts else ""
    plan = Plan(
        id=named,
        dataset=named,
        dataset_name=named,
        dataset_version=named,
        tasks=tuple((text, "") for text in texts),
        agent=named,
        agent_options={named: named},
        model=named,
        environment=named,
        lathe=named,
    )
    return plan, trials


def test_nothing_that_an_agent_wrote_runs(browser: Browser, tmp_path: Path) -> None:
    plan, trials = hostile_run(tmp_path, HOSTILE)
    write_report(tmp_path, plan, trials)
    reader = Reader(browser, tmp_path)
    shown = reader.page
    shown.get_by_role("button", name="Trials", exact=True).click()
    shown.get_by_role("button", name="Tasks", exact=True).click()
    for trial, text in zip(trials, HOSTILE, strict=True):
        reader.open(trial.id)
        for name in ("Changes", "Terminal", "Verifier", "Log", "Steps"):
            said = reader.tab(name)
            if "\x1b" not in text and "\u202e" not in text and name != "Terminal":
                assert text in said
        assert shown.locator("#trial :is(script, iframe, img, svg, base, link, object, embed)").count() == 0
        assert shown.locator("#trial a").evaluate_all(
            "all => all.every(one => /^#\\//.test(one.getAttribute('href') ?? '#/'))"
        )
    assert "U+202E" in reader.tab("Steps")
    assert shown.evaluate("window.pwned") is None
    assert reader.faults == []
    assert {url.partition("#")[0] for url in reader.asked} == {reader.url}
    # The page's policy holds for its own script too, should that ever take a text for more than a text.
    with pytest.raises(Error, match="TrustedHTML"):
        shown.evaluate("document.body.innerHTML = '<b>x</b>'")
    with pytest.raises(Error, match="TrustedScript"):
        shown.add_script_tag(content="window.pwned = 9")
    assert shown.evaluate("window.pwned") is None
    reader.context.close()


class Tags(HTMLParser):
    """All elements of a page, with their attributes but for what these say."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[str, ...]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("rect", "title", "text", "g", "li", "line", "circle"):
            self.found.append((tag, tuple(name for name, _ in attrs)))


@given(st.lists(st.sampled_from(HOSTILE) | st.text(st.characters(codec="utf-8"), max_size=20), min_size=1, max_size=3))
def test_a_page_has_the_same_elements_whatever_it_tells_of(texts: list[str]) -> None:
    plan, trials = hostile_run_without_files(texts)
    tame = [f"word{number}" if text else "" for number, text in enumerate(texts)]
    if len(set(texts)) < len(texts):
        return
    hostile = Tags(as_page(build(plan, trials), Path("/nonexistent"))).found
    assert hostile == Tags(as_page(build(*hostile_run_without_files(tame)), Path("/nonexistent"))).found


def hostile_run_without_files(texts: list[str]) -> tuple[Plan, list[Trial]]:
    def word(text: str, number: int) -> dict[str, Any]:
        return {"id": f"t{number}", "task": text, "category": text, "why": text, "standins": (text,)}

    base = Trial(
        id="", task="", dataset="", digest="", cluster="", agent="", model="", attempt=1, verdict="scored", reward=1.0,
        began=1, times=Times(total=1.0),
    )  # fmt: skip
    trials = [msgspec.structs.replace(base, **word(text, number)) for number, text in enumerate(texts)]
    plan = Plan(
        id=texts[0], dataset=texts[0], dataset_name=texts[0], dataset_version=texts[0], tasks=((texts[0], ""),),
        agent=texts[0], model="m", environment=texts[0],
    )  # fmt: skip
    return plan, trials


def test_what_would_make_the_page_too_large_is_cut_and_said(
    tmp_path: Path, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, trials = hostile_run(tmp_path, ["one", "two"])
    noise = os.urandom(3_000_000).hex()
    steps = tuple(
        Step(step_id=number, source="agent", message=f"step {number} {noise[number * 500 : number * 500 + 500]}")
        for number in range(1, 3001)
    )
    long = Trajectory(schema_version="ATIF-v1.7", agent=Agent("a", "1"), steps=steps)
    own = tmp_path / "trials" / "t0.1"
    (own / "trajectory.json").write_bytes(write(long))
    (own / "terminal.jsonl").write_text(json.dumps([0, "o", noise]))
    (own / "diff.patch").write_text(noise)
    write_report(tmp_path, plan, trials)
    reader = Reader(browser, tmp_path)
    reader.open("t0.1")
    said = reader.page.locator("#trial").text_content() or ""
    assert "2000 of 3000 steps are left out, after step 500." in said
    assert "The terminal's recording ends after 1000000 characters." in said
    assert "The diff ends after 300000 of 6000000 characters." in said
    monkeypatch.setattr(page, "PAGE_MOST", 100_000)
    write_report(tmp_path, plan, trials)
    assert (tmp_path / "report.html").stat().st_size < 250_000
    reader.page.reload()
    reader.page.wait_for_selector("#trial .head")
    said = reader.page.locator("#trial").text_content() or ""
    assert "Shown in a bare form, or the page would be too large; the trial's folder has the whole." in said
    assert reader.faults == []
    reader.context.close()


def test_links_and_pipes_in_a_trials_folder_are_left_alone(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the secret")
    plan, trials = hostile_run(tmp_path / "run", ["one"])
    own = tmp_path / "run" / "trials" / "t0.1"
    (own / "agent.log").unlink()
    (own / "agent.log").symlink_to(secret)
    os.mkfifo(own / "verifier" / "pipe")
    (own / "changes.json").write_text(
        json.dumps([{"path": "/x", "how": "added", "kept": name} for name in ("../../../secret", "agent.log", "\0")])
    )
    (own / "diff.patch").unlink()
    (own / "diff.patch").mkdir()
    (own / "trajectory.json").write_text("{torn")
    write_report(tmp_path / "run", plan, trials)
    found = page.Evidence(own, trials[0]).collect(page.FULL)
    assert "the secret" not in json.dumps(found)
    assert (found["diff"], found["steps"], found["log"]) == ("", [], "")


def test_a_run_without_trials_and_one_of_faults_alone_are_reported(tmp_path: Path, browser: Browser) -> None:
    plan, trials = hostile_run(tmp_path, ["one", "two"])
    faults = [msgspec.structs.replace(trial, verdict="fault", reward=None, cost=trial.cost) for trial in trials]
    for some in ([], faults):
        write_report(tmp_path, plan, some)
        reader = Reader(browser, tmp_path)
        assert len(reader.rows()) == 2
        assert reader.faults == []
        reader.context.close()
    assert "2 of 2 planned trials have no record" in msgspec.json.encode(build(plan, [])).decode()


SCREENS = [
    ("one\ntwo", ["one", "two"]),
    ("one\r\ntwo\r\n", ["one", "two"]),
    ("10%\r100%\r\n", ["100%"]),
    ("abc\b\bX\r\n", ["aXc"]),
    ("a\tb\r\n", ["a       b"]),
    ("first\r\n\x1b[2J\x1b[Hsecond\r\n", ["second"]),
    ("\x1b[3;5Hhere\x1b[1;1Hthere\r\n", ["there", "", "    here"]),
    ("abcdef\x1b[3D\x1b[K\r\n", ["abc"]),
    ("12345\x1b[1G\x1b[2P\x1b[@X\r\n", ["X345"]),
    ("a\r\nb\r\nc\x1b[2;1H\x1b[Lnew\r\n", ["a", "new", "b", "c"]),
    ("main\r\n\x1b[?1049h\x1b[Hfull screen\x1b[?1049lback\r\n", ["main", "back"]),
    ("\x1b(0lqk\x1b(B\r\n", ["┌─┐"]),
    ("\x1b]0;title\x07\x1b[?25l\x1bPq#0\x1b\\text\r\n", ["text"]),
    ("日本\x1b[2Dx\r\n", ["日x"]),
    ("x" * 25 + "\r\n", ["x" * 20, "x" * 5]),
    ("\x1b[2;4r\x1b[4;1H1\r\n2\r\n3\r\n\x1b[r\x1b[1;1Htop\r\n", ["top", "2", "3"]),
    ("\x1b[999999;999999Hx\x1b[9999b\x1b[38;5mo\x1b[;;;m\x1b[48;2;1;2m\x1b[2J\x1b[Hend\r\n", ["end"]),
    ("e\u0301\r\n", ["e\u0301"]),
]


def test_the_replay_shows_what_a_terminal_would(tmp_path: Path, browser: Browser) -> None:
    plan, trials = hostile_run(tmp_path, [f"screen {number}" for number in range(len(SCREENS))])
    header = json.dumps({"version": 2, "width": 20, "height": 6})
    for trial, (text, _) in zip(trials, SCREENS, strict=True):
        # a letter an event: sequences are torn wherever they can be
        lines = [json.dumps([number / 10, "o", letter]) for number, letter in enumerate(text)]
        (tmp_path / "trials" / trial.id / "terminal.jsonl").write_text("\n".join([header, *lines, "[torn"]))
    write_report(tmp_path, plan, trials)
    reader = Reader(browser, tmp_path)
    for trial, (text, screen) in zip(trials, SCREENS, strict=True):
        reader.open(trial.id)
        reader.tab("Terminal")
        rows = reader.page.locator(".glass pre div").evaluate_all("all => all.map(one => one.textContent.trimEnd())")
        assert "\n".join(rows).rstrip().split("\n") == screen, repr(text)
    reader.context.close()
