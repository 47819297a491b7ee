from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lathe.models.sse import SseEvent, SseOverflow, SseParser


def parse(*chunks: bytes) -> list[SseEvent]:
    parser = SseParser()
    return [event for chunk in chunks for event in parser.feed(chunk)]


@pytest.mark.parametrize(
    ("text", "events"),
    [
        (b"data: a\n\n", [("message", "a")]),
        (b"data: a\r\rdata: b\r\r", [("message", "a"), ("message", "b")]),
        (b"data: a\r\ndata: b\r\n\r\n", [("message", "a\nb")]),
        (b"event: ping\ndata\n\n", [("ping", "")]),
        (b"event: lost\n\ndata: kept\n\n", [("message", "kept")]),
        (b": a comment\nid: 7\nretry: 9\ndata:  two spaces\n\n", [("message", " two spaces")]),
        (b"\xef\xbb\xbfdata: after a mark\n\n", [("message", "after a mark")]),
        (b"data: never ended\n", []),
        (b"nonsense\n\n\n\n", []),
        (b"data: \xff\n\n", [("message", "\ufffd")]),
        (b"data: a\x0bb\x85\n\n", [("message", "a\x0bb\ufffd")]),
    ],
)
def test_a_stream_is_read_as_the_standard_says(text: bytes, events: list[tuple[str, str]]) -> None:
    assert parse(text) == [SseEvent(*event) for event in events]
    assert parse(*(bytes([byte]) for byte in text)) == [SseEvent(*event) for event in events]


lines = st.sampled_from([b"data: x", b"data:", b"event: e", b": c", b"", "data: é☃".encode(), b"\xef\xbb\xbfdata: y"])
ends = st.sampled_from([b"\n", b"\r", b"\r\n"])
streams = st.one_of(
    st.binary(max_size=200), st.lists(st.tuples(lines, ends)).map(lambda x: b"".join(a + b for a, b in x))
)


@given(streams, st.lists(st.integers(0, 400), max_size=12))
def test_events_do_not_depend_on_how_the_bytes_were_split(text: bytes, cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    chunks = [text[a:b] for a, b in pairwise(places)]
    assert parse(*chunks) == parse(text)


@pytest.mark.parametrize("piece", [b"x" * 100, b"data: " + b"x" * 93 + b"\n", b"data:\n"])
def test_a_stream_without_ends_cannot_eat_memory(piece: bytes) -> None:
    parser = SseParser(limit=1000)
    with pytest.raises(SseOverflow):
        for _ in range(2000):
            parser.feed(piece)


def test_a_long_stream_of_small_events_never_reaches_the_limit() -> None:
    parser = SseParser(limit=100)
    assert sum(len(parser.feed(b"data: 0123456789\n\n")) for _ in range(1000)) == 1000
