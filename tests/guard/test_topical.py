"""The topical monitor: any text has a score, and it does not depend on what else was seen."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lathe.guard.findings import Call, Material, Part
from lathe.guard.ladder import Situation, decide
from lathe.guard.policy import shipped
from lathe.guard.reasoner import fitted
from lathe.guard.topical import CACHED, SHIPPED, TopicalModel, TopicalMonitor

MONITOR = TopicalMonitor.load()
ABOUT = "Explain ransomware, keyloggers and privilege escalation."
ORDINARY = "Rename the column in the migration and update the tests that read it."
LOG = "2026-11-02 09:14:07 INFO worker 4 finished batch 1182 in 310 ms, 0 retries, queue depth 12\n" * 60


@pytest.mark.parametrize(
    "text", [ABOUT, LOG + ABOUT, LOG + ABOUT + LOG, f"{LOG * 4}{ABOUT}{LOG * 4}", f"```\n{ABOUT}\n```"]
)
def test_the_topic_is_found_wherever_it_stands(text: str):
    look = MONITOR.look(text)
    assert look.topic >= fitted().passes
    assert set(text[look.start : look.end].split()) & {"ransomware,", "keyloggers", "escalation."}


@pytest.mark.parametrize(
    "text",
    [
        ORDINARY,
        LOG,
        "Write a function that parses the date in the header of an invoice, and tests for leap years.",
        "Исправь ошибку в функции, которая сортирует список покупок.",
        "この関数のテストを追加して、ドキュメントを更新してください。",
    ],
)
def test_ordinary_work_is_not_passed_on(text: str):
    assert MONITOR.score(text) < fitted().passes


@pytest.mark.parametrize("hidden", ["ran\u200bsom\u00adware", "ｒａｎｓｏｍｗａｒｅ", "RANSOMWARE", "ransomware\u2060"])
def test_letters_that_do_not_show_hide_nothing(hidden: str):
    assert MONITOR.score(f"Explain {hidden} in detail") == pytest.approx(MONITOR.score("Explain ransomware in detail"))


@settings(deadline=None, max_examples=150)
@given(
    st.text(max_size=600) | st.binary(max_size=400).map(lambda raw: raw.decode("utf-8", "surrogateescape")),
    st.integers(1, 40),
)
def test_every_text_has_a_score_and_a_window(text: str, times: int):
    look = MONITOR.look(text * times)
    assert 0 <= look.topic <= 1 and 0 <= look.harm <= 1
    assert 0 <= look.start <= look.end <= max(len(text * times), look.end if not text.isascii() else 0)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text(max_size=80), max_size=8))
def test_a_score_does_not_change_with_what_was_seen_before(texts: list[str]):
    other = TopicalMonitor.load()
    for text in texts:
        other.look(text)
    for text in [*reversed(texts), ABOUT, ABOUT]:
        assert other.look(text) == MONITOR.look(text)


def test_the_memory_of_texts_is_bounded():
    monitor = TopicalMonitor.load()
    first = monitor.look(ABOUT)
    for number in range(CACHED + 10):
        monitor.look(f"text {number}")
    assert len(monitor._seen) == CACHED
    assert monitor.look(ABOUT) == first


def test_a_topic_alone_stops_nothing():
    material = Material(parts=(Part("part_1", ABOUT, "person"),), calls=(Call("call_1", "shell", '{"command": "ls"}'),))
    findings = MONITOR.findings(material)
    assert [one.spans[0].part for one in findings] == ["part_1", "call_1"]
    situation = Situation(findings=tuple(findings), monitors={"topical": "ok", "reasoner": "ok"})
    assert decide(shipped(), situation).step == "allow"


@pytest.mark.parametrize(
    "damage",
    [lambda raw: raw[:-1], lambda raw: b"X" + raw[1:], lambda raw: b"", lambda raw: raw[:8] + bytes(60) + raw[68:]],
)
def test_a_broken_model_is_no_model(tmp_path, damage):
    (tmp_path / "model").write_bytes(damage(SHIPPED.read_bytes()))
    with pytest.raises(ValueError):
        TopicalModel.read(tmp_path / "model")
