"""What a form or the query of a page asks of an operation, as the operation's own shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from lathe.gateway.admin.faults import invalid

_S = TypeVar("_S", bound=msgspec.Struct)


def shaped(kind: type[_S], values: Mapping[str, Any]) -> _S:
    """Return `values` as what an operation takes, texts as numbers where those are wanted; raise `AdminError`."""
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise invalid(f"The form is wrong: {error}.") from None


def lines(text: str) -> list[str]:
    """Return the words of a field that has one on each line, or between commas."""
    return [word for line in text.replace(",", "\n").splitlines() if (word := line.strip())]
