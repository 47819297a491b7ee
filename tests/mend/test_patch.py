"""Patches as text: they say what changed, and the patch tool agrees."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from lathe.mend.patch import render_diff, render_patch
from lathe.tools.patch_apply import apply_patch


def test_a_patch_has_three_lines_of_context() -> None:
    before = "".join(f"{number}\n" for number in range(10))
    assert render_patch({"n.txt": (before, before.replace("5", "five"))}) == (
        "*** Begin Patch\n*** Update File: n.txt\n@@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n*** End Patch\n"
    )


def test_nothing_changed_is_no_patch() -> None:
    assert render_patch({"a": ("x\n", "x\n")}) == render_diff({"a": ("x\n", "x\n")}) == ""


def test_a_place_that_occurs_twice_is_named_by_an_anchor(tmp_path: Path) -> None:
    body = "    a = 1\n    b = 2\n    c = 3\n    return a\n    # 1\n    # 2\n    # 3\n"
    before = f"def first():\n{body}def second():\n{body}"
    at = before.rindex("return a")
    after = before[:at] + "return b" + before[at + 8 :]
    (tmp_path / "m.py").write_text(before)
    patch = render_patch({"m.py": (before, after)})
    assert "@@ def second():" in patch
    apply_patch(patch, tmp_path)
    assert (tmp_path / "m.py").read_text() == after


def test_files_in_other_encodings_have_context_in_ascii_only() -> None:
    before = "ü\na\nb\nc\nö\n"
    patch = render_patch({"m.py": (before, before.replace("b", "B"))}, ["m.py"])
    assert patch == "*** Begin Patch\n*** Update File: m.py\n@@\n a\n-b\n+B\n c\n*** End Patch\n"


@given(st.lists(st.sampled_from(["a", "b", "  c", "d e"]), min_size=1, max_size=30), st.data())
def test_the_patch_tool_makes_of_the_first_text_the_second(lines: list[str], data: st.DataObject) -> None:
    import tempfile

    at = data.draw(st.integers(0, len(lines) - 1))
    changed = [*lines[:at], *data.draw(st.lists(st.sampled_from(["new", "newer"]), min_size=1, max_size=2))]
    changed += lines[at + data.draw(st.integers(0, 1)) :]
    before, after = ("".join(f"{line}\n" for line in text) for text in ([*"xyz", *lines], [*"xyz", *changed]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.txt"
        path.write_text(before)
        apply_patch(render_patch({"t.txt": (before, after)}), Path(folder))
        assert path.read_text() == after
