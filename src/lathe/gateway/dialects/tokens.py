"""An estimate of a request's input tokens, from its bytes: for reservations, and where no upstream counts."""

from __future__ import annotations

from lathe.gateway.dialects.fields import Field, Fields

BYTES_PER_TOKEN = 3.6
"""Of JSON with English and code in it, as agents send it."""
IMAGE_TOKENS = 1600
"""What the vendors count at most for an image of usual size."""

_INPUTS = ("input", "messages", "system", "instructions", "tools")


def estimate_tokens(body: bytes, fields: Fields) -> int:
    """Return about how many tokens the input in `body` has; an image counts the same, however many bytes it has."""
    places = [fields[name] for name in _INPUTS if name in fields]
    size = sum(place.end - place.value for place in places)
    images = 0
    if body.find(b"image") >= 0:
        # Chat says `image_url` twice of each, Responses says `input_image` besides, Messages `image`.
        images = (body.count(b'"image_url"') + body.count(b'"input_image"')) // 2 + body.count(b'"image"')
        size -= sum(_inline(body, place) for place in places)
    return max(1, round(size / BYTES_PER_TOKEN)) + images * IMAGE_TOKENS


def _inline(body: bytes, place: Field) -> int:
    """Return how many bytes of images stand in a field: of `data:` URLs, or in Messages' field `data`."""
    total, at = 0, place.value
    while (at := body.find(b"base64", at, place.end)) >= 0:
        at += len(b"base64")
        if body.startswith(b'"', at):
            data = body.find(b'"data"', at, place.end)
            at = body.find(b'"', data + len(b'"data"'), place.end) + 1 if data >= 0 else 0
        end = body.find(b'"', at, place.end)
        if not at or end < 0:
            break
        total += end - at
        at = end
    return total
