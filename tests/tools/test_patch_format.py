from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lathe.tools.patch import AddFile, DeleteFile, Hunk, PatchError, UpdateFile, parse_patch


def wrap(*lines: str) -> str:
    return "\n".join(("*** Begin Patch", *lines, "*** End Patch"))


def hunks_of(*lines: str) -> tuple[Hunk, ...]:
    (section,) = parse_patch(wrap("*** Update File: f", *lines)).sections
    assert isinstance(section, UpdateFile)
    return section.hunks


def test_a_patch_holds_added_deleted_updated_and_moved_files_in_order():
    patch = parse_patch(
        wrap(
            "*** Add File: a.txt",
            "+one",
            "+",
            "+two",
            "*** Delete File: b.txt",
            "*** Update File: c.txt",
            "*** Move to: d.txt",
            "@@ def f():",
            " keep",
            "-old",
            "+new",
            "*** End of File",
        )
    )
    assert patch.sections == (
        AddFile("a.txt", ("one", "", "two")),
        DeleteFile("b.txt"),
        UpdateFile(
            "c.txt",
            (Hunk(("def f():",), ((" ", "keep"), ("-", "old"), ("+", "new")), at_end=True),),
            move_to="d.txt",
        ),
    )


@pytest.mark.parametrize(
    "text",
    [
        "\n\n" + wrap("*** Add File: a", "+x") + "\n\n",
        wrap("*** Add File: a", "+x").replace("\n", "\r\n"),
        "  *** Begin Patch  \n  *** Add File: a \n+x\n *** End Patch ",
        "    *** Begin Patch\n    *** Add File: a\n    +x\n    *** End Patch\n",
        "<<'EOF'\n" + wrap("*** Add File: a", "+x") + "\nEOF\n",
        "<<EOF\n" + wrap("*** Add File: a", "+x") + "\nEOF",
        'apply_patch <<"PATCH"\n' + wrap("*** Add File: a", "+x") + "\nPATCH",
        "```diff\n" + wrap("*** Add File: a", "+x") + "\n```",
        "\ufeff" + wrap("*** add file:a", "+x", "", ""),
    ],
)
def test_wrappings_and_space_around_markers_are_tolerated(text: str):
    assert parse_patch(text).sections == (AddFile("a", ("x",)),)


def test_two_patches_in_one_text_are_one_patch():
    text = wrap("*** Add File: a", "+x") + "\n" + wrap("*** Delete File: b")
    assert parse_patch(text).sections == (AddFile("a", ("x",)), DeleteFile("b"))


def test_the_first_hunk_may_begin_without_its_marker():
    assert hunks_of(" import os", "+import sys") == (Hunk((), ((" ", "import os"), ("+", "import sys"))),)


def test_blank_context_lines_may_lack_their_space():
    assert hunks_of("@@", " a", "", "-b") == (Hunk((), ((" ", "a"), (" ", ""), ("-", "b"))),)


def test_anchors_stack_until_the_lines_begin():
    (hunk,) = hunks_of("@@ class Foo", "@@     def bar():", "-x")
    assert hunk.anchors == ("class Foo", "    def bar():")


def test_numbers_of_a_unified_diff_are_no_anchor():
    one, two = hunks_of("--- a/f", "+++ b/f", "@@ -1,2 +1,2 @@ def f():", "-x", "@@ def g(): @@", "-y")
    assert one == Hunk((), (("-", "x"),))
    assert two.anchors == ("def g():",)


def test_a_context_line_that_looks_like_a_header_stays_a_line():
    (hunk,) = hunks_of("@@", " *** Update File: other", "-*** End Patch", "+*** End of File")
    assert [text for _, text in hunk.lines] == ["*** Update File: other", "*** End Patch", "*** End of File"]


def test_a_blank_line_below_an_addition_is_not_its_context():
    assert hunks_of("@@ class A", "+x", "", "@@", "-y")[0].lines == (("+", "x"),)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "first line"),
        ("diff --git a/x b/x", "first line"),
        ("*** Begin Patch", "last line"),
        ("*** Begin Patch\n*** Add File: a\n+x", "last line"),
        (wrap(), "empty"),
        (wrap("+x"), "line 2"),
        (wrap("*** Add File: a", "x"), "line 3"),
        (wrap("*** Add File:"), "no header"),
        (wrap("*** Update File: a"), "no hunks"),
        (wrap("*** Update File: a", "@@"), "no lines"),
        (wrap("*** Update File: a", "@@", "*** End of File"), "no lines"),
        (wrap("*** Update File: a", "@@", "-x", "oops"), "line 5: 'oops'"),
        (wrap("*** Delete File: a\0b"), "NUL"),
        (wrap("*** Add File: a", "+\ud800"), "Unicode"),
    ],
)
def test_what_is_wrong_is_said_in_one_message(text: str, says: str):
    with pytest.raises(PatchError, match=says):
        parse_patch(text)


PIECES = st.sampled_from(
    [
        "*** Begin Patch", "*** End Patch", "*** Add File: a", "*** Update File: b", "*** Delete File: c",
        "*** Move to: d", "*** End of File", "@@", "@@ x", "@@ -1 +1 @@", "+x", "-y", " z", "", "\\ No newline", "\t",
        "<<EOF", "EOF", "```", "***", "--- a", "+++ b", "*** Update File:", "\r", " *** End Patch",
    ]
)  # fmt: skip


@given(st.lists(PIECES, max_size=25).map("\n".join) | st.text())
def test_parsing_raises_nothing_but_patch_errors(text: str):
    try:
        parse_patch(wrap(text))
        parse_patch(text)
    except PatchError as error:
        assert error.message
