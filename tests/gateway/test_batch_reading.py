"""Lines of a file, however it comes."""

from __future__ import annotations

from collections.abc import AsyncIterator

from hypothesis import given
from hypothesis import strategies as st

from lathe.gateway.batches.reading import lines_of


async def cut(data: bytes, sizes: list[int]) -> AsyncIterator[bytes]:
    for size in sizes:
        yield data[:size]
        data = data[size:]
    yield data


@given(st.lists(st.sampled_from([b"a", b"long line", b"\n", b"\r\n", b" "])), st.lists(st.integers(0, 5)))
async def test_lines_are_the_same_wherever_they_are_cut(pieces: list[bytes], sizes: list[int]) -> None:
    data = b"".join(pieces)
    expected = [(number, line) for number, line in enumerate(data.split(b"\n"), 1) if line.strip()]
    assert [found async for found in lines_of(cut(data, sizes), 1000)] == expected
    short = [(number, line[:4]) for number, line in expected if line[:4].strip()]
    assert [found async for found in lines_of(cut(data, sizes), 3)] == short
