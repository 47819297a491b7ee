"""The model of naturalness that is shipped, on code that it has not seen."""

from __future__ import annotations

import ast

import pytest

from lathe.mend.lexemes import lex, words_of
from lathe.mend.natural import MAGIC, Natural
from lathe.mend.operators.registry import Edit
from lathe.mend.source import SourceFile

SEARCH = '''
"""Where things are."""


def position(shelves, wanted):
    low = 0
    high = len(shelves)  # one behind the last
    while low < high:
        middle = (low + high) // 2
        if shelves[middle] == wanted:
            return middle
        if shelves[middle] < wanted:
            low = middle
        else:
            high = middle
    return None


class Shelf:
    def __init__(self, boxes):
        self.boxes = boxes
        self.count = 0

    def take(self, label):
        if label not in self.boxes:
            raise KeyError(label)
        for box in self.boxes:
            if box.label == label:
                return box
        return None
'''
ODD = """
x = [1,
     'a' + f"{b}"]  # why

if x:

    y = b'' if x is not None else 0x1F  # and

    def f(a): return a
z = '''two
lines'''
"""


@pytest.fixture(scope="module")
def model() -> Natural:
    return Natural.load()


@pytest.fixture(scope="module")
def search() -> SourceFile:
    return SourceFile("search.py", SEARCH)


def edit(source: SourceFile, old: str, new: str) -> Edit:
    start = source.text.index(old)
    return Edit(start, start + len(old), new, "test", 1.0, 1)


@pytest.mark.parametrize(
    ("old", "usual", "odd"),
    [
        ("low = middle", "low = high", "low = KeyError"),
        ("len(shelves)", "len(shelves) - 1", "sum(wanted)"),
        ("not in self.boxes", "in self.boxes", "not in self.label"),
        ("return box\n", "return box.label\n", "return shelves\n"),
        ("for box in self.boxes", "for box in self.boxes[1:]", "for box in label.boxes"),
        ("raise KeyError(label)", "raise ValueError(label)", "raise position(label)"),
    ],
)
def test_what_a_person_may_write_scores_better_than_what_nobody_does(
    model: Natural, search: SourceFile, old: str, usual: str, odd: str
) -> None:
    assert model.score(search, edit(search, old, usual)) < model.score(search, edit(search, old, odd))


def test_scores_are_the_same_one_by_one_in_any_order_and_in_another_process(model: Natural) -> None:
    source = SourceFile("search.py", SEARCH)
    edits = [edit(source, "low < high", text) for text in ("low <= high", "low < low", "high", "low < high and wanted")]
    together = model.scores(source, edits)
    fresh = SourceFile("search.py", SEARCH)
    assert [model.score(fresh, one) for one in reversed(edits)] == together[::-1]
    assert all(-6.0 <= score <= 10.0 for score in together)


def test_an_edit_that_changes_no_word_scores_nothing(model: Natural, search: SourceFile) -> None:
    assert model.score(search, edit(search, "  # one behind the last", "")) == 0.0
    assert model.score(search, edit(search, "low = 0", "low  =  0")) == 0.0


def test_what_is_left_out_gains_little_however_rare_it_was(model: Natural, search: SourceFile) -> None:
    assert model.score(search, edit(search, "    low = 0\n    high = len(shelves)  # one behind the last\n", "")) > -6.0


def test_the_files_own_habits_count(model: Natural) -> None:
    body = "".join(f"    quux.frobnicate(item{number}, spline)\n" for number in range(8))
    source = SourceFile("own.py", f"def go(quux, spline, item1):\n{body}    quux.frobnicate(item1, gauge)\n")
    habit, other = edit(source, "item1, gauge", "item1, spline"), edit(source, "item1, gauge", "item1, quux")
    assert model.score(source, habit) < model.score(source, other)


def test_chances_after_a_context_add_up_to_one(model: Natural) -> None:
    for context in (("for", "i", "in"), ("<nl>", "if", "not"), ("=", "self", "."), (",", "None", ")")):
        before = [model.numbers[word] for word in context]
        total = sum(model.probability(*before, number) for number in model.numbers.values())
        # Sums go wrong by what rounding to a tenth of a bit and a rare clash of 32-bit keys add.
        assert total == pytest.approx(1.0, abs=0.35)


def test_the_model_names_its_sources_and_is_small(model: Natural) -> None:
    assert any("standard library" in source for source in model.sources)
    assert not any("GPL" in source or "MPL" in source for source in model.sources)


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(ValueError, match="not a model"):
        Natural(b"lathe natural 0\n" + bytes(100))
    assert MAGIC.endswith(b"\n")


def test_any_stretch_of_words_reads_the_same_alone_as_in_its_file() -> None:
    for text in (SEARCH, ODD):
        ast.parse(text)
        found = lex(text)
        for first in range(len(found.words)):
            for last in range(first + 1, min(first + 9, len(found.words) + 1)):
                stretch = text[found.starts[first] : found.ends[last - 1]]
                assert words_of(stretch, found.depths[first], found.margins[first]) == found.words[first:last]


def test_line_breaks_say_how_the_margin_changes_and_comments_say_nothing() -> None:
    words = lex(ODD).words
    assert words[:9] == ["x", "=", "[", "1", ",", '"a"', "+", 'f"{b}"', "]"]
    assert (words.count("<nl+>"), words.count("<nl->")) == (1, 1)
    assert not any("#" in word for word in words)
