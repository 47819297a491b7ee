from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lathe.tools.patch import PatchError, UpdateFile, parse_patch
from lathe.tools.patch_match import update
from lathe.tools.patch_text import Text


def patched(data: bytes, *lines: str) -> bytes:
    text = "\n".join(("*** Begin Patch", "*** Update File: f", *lines, "*** End Patch"))
    (section,) = parse_patch(text).sections
    assert isinstance(section, UpdateFile)
    return update(Text(data), section.hunks, "f").data


def test_lines_match_exactly_before_they_match_loosely():
    assert patched(b"  x\nx\n", "@@", "-x", "+y") == b"  x\ny\n"


def test_trailing_space_may_differ_and_context_keeps_it():
    assert patched(b"a  \nb\t\nc\n", "@@", " a", "-b", "+B") == b"a  \nB\nc\n"


def test_surrounding_space_may_differ():
    assert patched(b"  a\n  b\n", "@@", " a", "-b") == b"  a\n"


def test_typographic_punctuation_matches_ascii():
    data = "x \u2014 \u201cy\u201d\u00a0\u2018z\u2019\nend\n".encode()
    assert patched(data, "@@", " x - \"y\" 'z'", "-end", "+End") == data.replace(b"end", b"End")


def test_a_hunk_takes_the_first_match_after_the_previous_hunk():
    assert patched(b"x\nm\nx\nx\n", "@@", " m", "-x", "+1", "@@", "-x", "+2") == b"x\nm\n1\n2\n"
    assert patched(b"x\nx\n", "@@", "-x", "+1") == b"1\nx\n"


def test_hunks_out_of_order_apply_where_there_is_no_doubt():
    assert patched(b"a\nb\nc\n", "@@", "-c", "+C", "@@", "-a", "+A") == b"A\nb\nC\n"
    with pytest.raises(PatchError, match="hunk 2 of 2"):
        patched(b"a\na\nc\n", "@@", "-c", "+C", "@@", "-a", "+A")


def test_the_same_hunk_twice_does_not_apply_to_one_place_twice():
    with pytest.raises(PatchError, match="hunk 2 of 2"):
        patched(b"a\nb\n", "@@", "-a", "+a", "@@", "-a", "+a")


CLASSES = b"class A:\n    def f(self):\n        pass\n\nclass B(A):\n    def f(self):\n        pass\n"


def test_an_anchor_says_where():
    assert patched(CLASSES, "@@ class B(A):", "-        pass", "+        return 1").endswith(b"return 1\n")


def test_anchors_stack():
    changed = patched(CLASSES, "@@ class B", "@@ def f", "-        pass", "+        return 1")
    assert changed == CLASSES[: CLASSES.rindex(b"pass")] + b"return 1\n"


def test_anchors_match_whole_words_only():
    data = b"def runner():\n    a\ndef run():\n    a\n"
    assert patched(data, "@@ def run", "-    a", "+    b") == data[:-2] + b"b\n"


def test_a_context_that_repeats_its_anchor_matches_at_the_anchor():
    changed = patched(CLASSES, "@@ class B(A):", " class B(A):", "+    x = 1")
    assert changed == CLASSES.replace(b"class B(A):\n", b"class B(A):\n    x = 1\n")


def test_a_second_hunk_under_the_same_anchor_goes_on_below_the_first():
    data = b"def f():\n    a\n    b\n"
    assert patched(data, "@@ def f():", "-    a", "+    A", "@@ def f():", "-    b", "+    B") == (
        b"def f():\n    A\n    B\n"
    )


def test_an_addition_goes_right_below_its_anchor():
    assert patched(CLASSES, "@@ class B(A):", "+    x = 1") == CLASSES.replace(
        b"class B(A):\n", b"class B(A):\n    x = 1\n"
    )


def test_two_additions_below_one_anchor_stay_in_order():
    assert patched(b"a\nb\n", "@@ a", "+1", "@@ a", "+2") == b"a\n1\n2\nb\n"


def test_an_addition_without_anchor_goes_to_the_end():
    assert patched(b"a\nb\n", "@@", "+c") == b"a\nb\nc\n"
    assert patched(b"", "@@", "+c") == b"c\n"
    assert patched(b"a\nb\n", "@@ a", "+c", "*** End of File") == b"a\nb\nc\n"


def test_end_of_file_matches_from_the_end():
    assert patched(b"x\ny\nx\n", "@@", "-x", "+z", "*** End of File") == b"x\ny\nz\n"
    assert patched(b"x\ny\nx\n\n", "@@", "-x", "+z", "*** End of File") == b"x\ny\nz\n\n"


def test_blank_lines_around_a_hunk_need_not_be_in_the_file():
    assert patched(b"a\nb\n", "@@", " a", "-b", "+c", "", "@@", "+d") == b"a\nc\nd\n"
    assert patched(b"a\nb\n", "@@", "", " a", "-b", "", "*** End of File") == b"a\n"


# What is inserted is indented as the file is


@pytest.mark.parametrize(
    ("data", "lines", "expected"),
    [
        pytest.param(
            b"def f():\n\tif a:\n\t\treturn 1\n",
            ("     if a:", "-        return 1", "+        for x in a:", "+            return 2", "+    return 3"),
            b"def f():\n\tif a:\n\t\tfor x in a:\n\t\t\treturn 2\n\treturn 3\n",
            id="tabs in the file, spaces in the patch",
        ),
        pytest.param(
            b"def f():\n    if a:\n        return 1\n",
            (" \tif a:", "-\t\treturn 1", "+\t\tfor x in a:", "+\t\t\treturn 2"),
            b"def f():\n    if a:\n        for x in a:\n            return 2\n",
            id="spaces in the file, tabs in the patch",
        ),
        pytest.param(
            b"class A:\n    def f():\n        return 1\n",
            (" def f():", "-    return 1", "+    if a:", "+        return 2"),
            b"class A:\n    def f():\n        if a:\n            return 2\n",
            id="shifted",
        ),
        pytest.param(
            b"def f():\n    return 1\n",
            ("     def f():", "-        return 1", "+        if a:", "+            return 2", "+    x()"),
            b"def f():\n    if a:\n        return 2\nx()\n",
            id="shifted the other way",
        ),
        pytest.param(
            b"{\n    a: {\n        b: 1\n    }\n}\n",
            ("   a: {", "-    b: 1", "+    b: {", "+      c: 2", "+    }"),
            b"{\n    a: {\n        b: {\n            c: 2\n        }\n    }\n}\n",
            id="steps of two for steps of four",
        ),
        pytest.param(
            b"\tx = 1\n",
            ("-x = 1", "+if y:", "+    x = 2"),
            b"\tif y:\n\t\tx = 2\n",
            id="one line that tells nothing of the step",
        ),
        pytest.param(
            b"def f():\n  a\n   b\n",
            (" a", "- b", "+ c", "+"),
            b"def f():\n  a\n   c\n\n",
            id="odd steps",
        ),
    ],
)
def test_a_loose_match_carries_the_indentation_of_the_file_over(data: bytes, lines: tuple[str, ...], expected: bytes):
    assert patched(data, "@@", *lines) == expected


def test_an_exact_match_inserts_what_the_patch_says():
    assert patched(b"\ta\n\tb\n", "@@", " \ta", "-\tb", "+    c") == b"\ta\n    c\n"


def test_a_line_removed_and_added_again_keeps_its_bytes():
    data = "x = \u2018a\u2019  \ny\n".encode()
    assert patched(data, "@@", "-x = 'a'", "-y", "+x = 'a'", "+z") == data.replace(b"y", b"z")


# Bytes survive


def test_crlf_survives_and_new_lines_get_it():
    assert patched(b"a\r\nb\r\nc\r\n", "@@", " a", "-b", "+x", "+y") == b"a\r\nx\r\ny\r\nc\r\n"
    assert patched(b"a\r\nb\r\n", "@@", " a\r", "-b\r", "+x") == b"a\r\nx\r\n"


def test_in_mixed_line_endings_each_untouched_line_keeps_its_own():
    assert patched(b"a\nb\r\nc\r\nd\n\re\r\n", "@@", " b", "-c", "+x") == b"a\nb\r\nx\r\nd\n\re\r\n"


def test_a_carriage_return_that_only_the_added_line_has_is_meant():
    assert patched(b"a\nb\n", "@@", "-a", "+a\r") == b"a\r\nb\n"


def test_a_byte_order_mark_survives_and_is_no_part_of_the_first_line():
    assert patched(b"\xef\xbb\xbfa\nb\n", "@@", "-a", "+x") == b"\xef\xbb\xbfx\nb\n"


def test_utf_16_stays_utf_16():
    data = b"\xff\xfe" + "a\r\nb\r\n".encode("utf-16-le")
    assert patched(data, "@@", "-b", "+\u00e9") == b"\xff\xfe" + "a\r\n\u00e9\r\n".encode("utf-16-le")


def test_bytes_that_are_no_utf_8_survive():
    assert patched(b"caf\xe9\nb\n\xff\xfe\x00\n", "@@", "-b", "+c") == b"caf\xe9\nc\n\xff\xfe\x00\n"


def test_what_a_model_saw_as_replacement_characters_goes_back_as_the_bytes():
    assert patched(b"s = 'caf\xe9'\nb\n", "@@", "-s = 'caf\ufffd'", "+s = 'un caf\ufffd'", " b") == (
        b"s = 'un caf\xe9'\nb\n"
    )
    with pytest.raises(PatchError, match="not UTF-8"):
        patched(b"s = 'caf\xe9'\nb\n", "@@", "-s = 'caf\ufffd'", "+s = '\ufffd caf\ufffd'", " b")


def test_a_missing_last_line_break_stays_missing():
    assert patched(b"a\nb", "@@", "-b", "+c") == b"a\nc"
    assert patched(b"a\nb", "@@", " b", "+c") == b"a\nb\nc"
    assert patched(b"a\nb", "@@", "-a", "+x") == b"x\nb"
    assert patched(b"a\nb", "@@", " a", "-b") == b"a\n"
    assert patched(b"a", "@@", "-a") == b""


def test_the_last_line_break_can_be_taken_and_given():
    mark = "\\ No newline at end of file"
    assert patched(b"a\nb\n", "@@", "-b", "+c", mark) == b"a\nc"
    assert patched(b"a\nb", "@@", "-b", mark, "+c") == b"a\nc\n"


# A failure helps


def test_a_failure_names_file_hunk_and_the_nearest_lines():
    data = b"".join(b"line %d\n" % i for i in range(100)) + b"def area(width, height):\n    return width * height\n"
    with pytest.raises(PatchError) as caught:
        patched(data, "@@", "-line 3", "+x", "@@ def area", " def area(w, h):", "-    return width * heigth", "+    0")
    message = caught.value.message
    assert "f: hunk 2 of 2 (@@ def area)" in message
    assert "return width * heigth" in message
    assert "   101: def area(width, height):\n   102:     return width * height" in message


def test_a_failure_says_when_it_is_the_anchor_that_is_missing():
    with pytest.raises(PatchError, match=r"anchor is not in the file(.|\n)*class Bar(.|\n)*1: class Baz"):
        patched(b"class Baz:\n    x\n", "@@ class Bar:", "-    x", "+    y")


def test_a_failure_on_an_empty_file_or_nothing_alike_says_so():
    with pytest.raises(PatchError, match="empty"):
        patched(b"", "@@", "-a")
    with pytest.raises(PatchError, match="Nothing in its 1 lines"):
        patched(b"zzz\n", "@@", "-abc")


def test_a_failure_message_is_valid_text_for_any_file():
    with pytest.raises(PatchError) as caught:
        patched(b"caf\xe9 one\n", "@@", "-caf two")
    caught.value.message.encode()


def test_twenty_thousand_lines_match_loosely_and_fail_with_bounded_work(monkeypatch: pytest.MonkeyPatch):
    from lathe.tools import patch_nearest

    ratios = 0
    real = patch_nearest.SequenceMatcher.ratio

    def counted(self):
        nonlocal ratios
        ratios += 1
        return real(self)

    monkeypatch.setattr(patch_nearest.SequenceMatcher, "ratio", counted)
    data = b"".join(b"\tvalue_%d = compute(%d)  \n\t}\n" % (i, i) for i in range(10_000))
    changed = patched(data, "@@", "     }", "-    value_9000 = compute(9000)", "+    value_9000 = 0", "     }")
    assert changed == data.replace(b"value_9000 = compute(9000)  ", b"value_9000 = 0")
    with pytest.raises(PatchError, match="18001: \tvalue_9000"):
        patched(data, "@@", "-value_9000 = compute(9000) + 1")
    assert 0 < ratios < 100


# Any edit


LINES = st.lists(st.sampled_from(["a", "b", "  c", "\td", "", "e f", "}", "caf\u00e9", "\u201cq\u201d"]), max_size=30)


def as_patch(old: list[str], new: list[str], ending: tuple[bool, bool], context: int) -> list[str] | None:
    """Return hunks that turn `old` into `new`, None where the format has none (nothing changed)."""
    from difflib import unified_diff

    mark = "\\ No newline at end of file"
    ours = [line + "\n" for line in old]
    theirs = [line + "\n" for line in new]
    if ours and not ending[0]:
        ours[-1] = ours[-1][:-1]
    if theirs and not ending[1]:
        theirs[-1] = theirs[-1][:-1]
    lines: list[str] = []
    for line in list(unified_diff(ours, theirs, n=context))[2:]:
        if line.startswith("@@"):
            lines.append("@@")
        else:
            lines += [line.removesuffix("\n")] + ([mark] if not line.endswith("\n") else [])
    return lines or None


def joined(lines: list[str], newline: bool, line_break: str = "\n") -> bytes:
    text = line_break.join(lines) + (line_break if lines and newline else "")
    return text.encode()


@given(LINES, LINES, st.booleans(), st.booleans(), st.sampled_from(["\n", "\r\n"]))
def test_a_patch_made_of_two_texts_with_all_their_context_turns_one_into_the_other(
    old: list[str], new: list[str], newline: bool, newline_after: bool, line_break: str
):
    before, after = joined(old, newline, line_break), joined(new, newline_after, line_break)
    if before == joined(old, newline) and len(Text(before).lines) == 0:
        line_break = "\n"
        after = joined(new, newline_after)
    if len(old) == 1 and not newline:
        line_break = "\n"  # one line without an end has no line break to go by
        before, after = joined(old, newline), joined(new, newline_after)
    if Text(before).lines != old or Text(after).lines != new:
        return  # a last blank line without a line break is no line
    lines = as_patch(old, new, (newline, newline_after), context=100)
    if lines is not None:
        assert patched(before, *lines) == after


@given(st.integers(0, 10_000), st.integers(1, 6))
def test_a_patch_with_three_lines_of_context_turns_one_unique_text_into_the_other(seed: int, edits: int):
    rng = random.Random(seed)
    old = [f"{' ' * rng.choice([0, 2, 4])}line {i}" for i in range(rng.randint(1, 80))]
    new = list(old)
    for number in range(edits):
        at = rng.randint(0, len(new))
        new[at : at + rng.randint(0, 3)] = [f"new {number} {i}" for i in range(rng.randint(0, 3))]
    lines = as_patch(old, new, (True, True), context=3)
    if lines is not None:
        assert patched(joined(old, True), *lines) == joined(new, True)
