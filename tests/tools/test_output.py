"""Outputs cut to size: what the model sees, what the disk keeps, what memory holds."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lathe.tools.output import OutputBuffer, clean


def taken(tmp_path: Path, *blocks: bytes, limit: int = 100) -> tuple[str, str | None]:
    buffer = OutputBuffer(limit, tmp_path / "spill" / "out.log")
    for block in blocks:
        buffer.write(block)
    buffer.close()
    return buffer.take()


def test_a_short_output_is_shown_whole_and_writes_no_file(tmp_path):
    assert taken(tmp_path, b"one\n", b"two\n") == ("one\ntwo\n", None)
    assert not (tmp_path / "spill").exists()


def test_a_long_output_keeps_both_ends_and_says_what_was_cut_and_where_it_is(tmp_path):
    whole = b"".join(b"line %d\n" % n for n in range(10_000))
    text, path = taken(tmp_path, whole)
    assert text.startswith("line 0\nline 1\n")
    assert text.endswith("line 9999\n")
    assert len(text) < 100 * 4 + 200
    shown = sum(line.startswith("line") for line in text.splitlines())
    assert f" tokens, {10_000 - shown:,} lines cut; full output: {path} …]\n" in text
    assert Path(path).read_bytes() == whole


def test_an_output_a_bit_over_the_limit_reaches_the_disk_as_well(tmp_path):
    text, path = taken(tmp_path, b"x" * 99 + b"\n", b"y" * 400)
    assert "cut" in text
    assert Path(path).read_bytes() == b"x" * 99 + b"\n" + b"y" * 400


def test_each_take_gives_only_what_is_new_and_the_file_holds_everything(tmp_path):
    buffer = OutputBuffer(1000, tmp_path / "out.log")
    buffer.write(b"first\n")
    assert buffer.take() == ("first\n", None)
    assert buffer.take() == ("", None)
    buffer.write(b"second\n")
    assert buffer.take() == ("second\n", None)
    flood = b"flood " * 100_000
    for start in range(0, len(flood), 1000):
        buffer.write(flood[start : start + 1000])
    text, path = buffer.take()
    assert text.startswith("flood flood")
    buffer.close()
    assert Path(path).read_bytes() == b"first\nsecond\n" + flood


def test_a_take_can_ask_for_less_than_the_buffer_allows(tmp_path):
    buffer = OutputBuffer(1000, tmp_path / "out.log")
    buffer.write(b"z" * 3000)
    assert len(buffer.take(10).text) < 300
    buffer.close()


def test_a_flood_is_held_in_bounded_memory_and_a_bounded_file(tmp_path, monkeypatch):
    monkeypatch.setattr("lathe.tools.output.SPILL_LIMIT", 1_000_000)
    buffer = OutputBuffer(100, tmp_path / "out.log")
    for _ in range(200):
        buffer.write(b"0123456\n" * 8192)
    assert len(buffer.pending()) <= 3 * 128 * 1024
    text, path = buffer.take()
    assert "3,276," in text
    assert "; the first " in text
    assert Path(path).stat().st_size == 1_000_000


def test_a_full_disk_loses_only_the_middle_and_says_so(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        text, path = taken(tmp_path, *[b"line\n" * 10_000] * 10)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path is None
    assert text.startswith("line\n")
    assert text.endswith("line\n")
    assert "the full output could not be kept: File too large" in text
    assert list((tmp_path / "spill").iterdir()) == []


def test_a_spill_folder_that_cannot_be_made_is_said_and_does_no_harm(tmp_path):
    (tmp_path / "spill").write_text("in the way")
    text, path = taken(tmp_path, b"word " * 10_000)
    assert path is None
    assert "could not be kept" in text


def test_binary_output_is_named_instead_of_shown(tmp_path):
    data = bytes(range(256)) * 50
    text, path = taken(tmp_path, data)
    assert text == f"[binary output, 12,800 bytes, not shown; full output: {path}]"
    assert Path(path).read_bytes() == data


def test_text_in_another_script_is_not_taken_for_binary(tmp_path):
    assert taken(tmp_path, "данные 数据\n".encode()) == ("данные 数据\n", None)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"\x1b[1;31mred\x1b[0m and \x1b]0;title\x07plain", "red and plain"),
        (b"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        (b"\x1b]no end\nnext", "\nnext"),
        (b"a\r\nb\r\n", "a\nb\n"),
        (b" 10%\r 50%\r100%\ndone\n", "100%\ndone\n"),
        (b" 10%\r 50%\r", " 50%"),
        (b"b\x08bo\x08ol\x08ld", "bold"),
        (b"bell\x07", "bell\ufffd"),
        (b"a\0b\0", "ab\n[2 NUL bytes left out]"),
        (b"caf\xc3\xa9 \xff\n", "café \ufffd\n"),
        ("csi \x9b31m".encode(), "csi \ufffd31m"),
        (b"tab\there", "tab\there"),
    ],
)
def test_text_is_cleaned_for_reading(raw, text):
    assert clean(raw) == text


@given(st.binary(max_size=300))
def test_clean_text_never_holds_control_characters(raw):
    assert not [c for c in clean(raw) if (c < " " and c not in "\n\t") or "\x7f" <= c <= "\x9f"]


@given(st.lists(st.text(max_size=80).map(str.encode), max_size=40), st.integers(1, 60))
def test_the_kept_file_is_the_output_byte_for_byte_however_it_was_cut(tmp_path_factory, blocks, limit):
    folder = tmp_path_factory.getbasetemp() / "spilled"
    text, path = taken(folder, *blocks, limit=limit)
    whole = b"".join(blocks)
    if path is None:
        assert text == clean(whole)
    else:
        assert Path(path).read_bytes() == whole
        Path(path).unlink()
