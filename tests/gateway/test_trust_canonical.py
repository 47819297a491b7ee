"""Canonical JSON against RFC 8785's own examples, and against Python's writer where the two must agree."""

from __future__ import annotations

import json
import math
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lathe.gateway.canonical import canonical, read_strictly
from lathe.protocol.errors import UsageError

# RFC 8785, appendix B: the bits of a double and how it is written
NUMBERS = {
    "0000000000000000": "0",
    "8000000000000000": "0",
    "0000000000000001": "5e-324",
    "8000000000000001": "-5e-324",
    "7fefffffffffffff": "1.7976931348623157e+308",
    "ffefffffffffffff": "-1.7976931348623157e+308",
    "4340000000000000": "9007199254740992",
    "c340000000000000": "-9007199254740992",
    "4430000000000000": "295147905179352830000",
    "44b52d02c7e14af5": "9.999999999999997e+22",
    "44b52d02c7e14af6": "1e+23",
    "44b52d02c7e14af7": "1.0000000000000001e+23",
    "444b1ae4d6e2ef4e": "999999999999999700000",
    "444b1ae4d6e2ef4f": "999999999999999900000",
    "444b1ae4d6e2ef50": "1e+21",
    "3eb0c6f7a0b5ed8c": "9.999999999999997e-7",
    "3eb0c6f7a0b5ed8d": "0.000001",
    "41b3de4355555553": "333333333.3333332",
    "41b3de4355555554": "333333333.33333325",
    "41b3de4355555555": "333333333.3333333",
    "41b3de4355555556": "333333333.3333334",
    "41b3de4355555557": "333333333.33333343",
    "becbf647612f3696": "-0.0000033333333333333333",
    "43143ff3c1cb0959": "1424953923781206.2",
}
whole = st.integers(-(2**53) + 1, 2**53 - 1)
values = st.recursive(
    st.none() | st.booleans() | whole | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)


@pytest.mark.parametrize(("bits", "text"), NUMBERS.items())
def test_numbers_are_written_as_the_standard_lists_them(bits: str, text: str) -> None:
    assert canonical(struct.unpack(">d", bytes.fromhex(bits))[0]).decode() == text


def test_the_standards_examples() -> None:
    value = {
        "numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": "\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"/",
        "literals": [None, True, False],
    }
    assert canonical(value).decode() == (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )
    names = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    sorted_names = ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]
    assert list(json.loads(canonical(dict.fromkeys(names)))) == sorted_names


@settings(deadline=None)
@given(values)
def test_it_agrees_with_pythons_writer_but_for_the_order_of_keys(value: object) -> None:
    text = canonical(value)
    assert json.loads(text) == value == read_strictly(text)
    assert canonical(read_strictly(text)) == text
    # a control character is the only thing that the two escape in common; DEL and U+2028 stay as they are
    plain = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    assert sorted(text.decode()) == sorted(plain)
    if max(plain, default="") < "\U00010000":
        assert text.decode() == plain


@settings(deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_is_read_back_as_it_was(number: float) -> None:
    text = canonical([number])
    assert float(json.loads(text)[0]) == number
    assert canonical(read_strictly(text)) == text


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({1: 2}, "no string"),
        ([{"a": {None: 1}}], "no string"),
        (2**53, "is beyond"),
        ([math.nan], "not finite"),
        ("\ud800", "surrogate"),
        ({"a": b"x"}, "bytes"),
        ({"\ud800": 1}, "surrogate"),
    ],
)
def test_what_has_no_canonical_form_is_refused(value: object, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        canonical(value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b'{"a":1,"a":2}', "twice"),
        (b"\xff", "UTF-8"),
        (b"[" * 100_000, "deep"),
        (b"[NaN]", "NaN"),
        (b"{", "not JSON"),
        (b'"\xed\xa0\x80"', "UTF-8"),
    ],
)
def test_what_comes_from_outside_is_read_strictly(text: bytes, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        read_strictly(text)


def test_a_value_too_deep_is_refused() -> None:
    value: list[object] = []
    for _ in range(300):
        value = [value]
    with pytest.raises(UsageError, match="200 levels"):
        canonical(value)
