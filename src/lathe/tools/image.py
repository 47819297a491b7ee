"""`view_image`: an image file of this machine, for the model to look at."""

from __future__ import annotations

import asyncio
import os
import stat
from binascii import b2a_base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from lathe.models.base import ToolSpec
from lathe.protocol.events import OtherToolCall, Status
from lathe.protocol.items import InputImage, ToolCall
from lathe.sandbox.mounts import is_below
from lathe.sandbox.sight import Sight
from lathe.tools.arguments import decode_arguments
from lathe.tools.base import Access, MalformedCall, Outcome, ToolContext

SIZE_LIMIT: Final = 5 * 1024 * 1024 // 4 * 3
"""Bytes of a file that is sent as it is: 5 MiB once in base64, the smallest limit among the providers."""

_READ_LIMIT: Final = 64 * 1024 * 1024
_LONGEST_SIDE: Final = 2048

_SPEC = ToolSpec(
    name="view_image",
    description="Look at an image file (PNG, JPEG, GIF or WebP).",
    parameters={
        "type": "object",
        "properties": {"path": {"type": "string", "description": "Relative to the working directory, or absolute."}},
        "required": ["path"],
        "additionalProperties": False,
    },
)


class ImageArgs(msgspec.Struct, frozen=True):
    path: str


class _Unusable(Exception):
    """Why an image cannot be shown, in one sentence."""


class ViewImageTool:
    """Reads images; files at or under one of the `hidden` paths, and what the policy hides, are refused."""

    spec = _SPEC
    parallel = True

    def __init__(self, hidden: Sequence[str] = ()) -> None:
        self._hidden = tuple(os.path.realpath(path) for path in hidden)

    def parse(self, call: ToolCall) -> ImageArgs:
        args = decode_arguments(call, ImageArgs)
        if not args.path or "\0" in args.path:
            raise MalformedCall("view_image: `path` must name a file.")
        return args

    def access(self, args: ImageArgs, cwd: Path) -> tuple[Access, ...]:
        return ()

    def begin(self, args: ImageArgs, item_id: str) -> OtherToolCall:
        return self._item(args, item_id, "in_progress", "")

    async def run(self, args: ImageArgs, context: ToolContext) -> Outcome:
        try:
            if Sight(context.policy).hides(str(context.cwd / args.path)):
                raise _Unusable(f"{args.path} is hidden from this thread.")
            kind, data = self._read(context.cwd / args.path, args.path)
            if len(data) > SIZE_LIMIT:
                kind, data = await asyncio.to_thread(_smaller, data, args.path)
        except _Unusable as reason:
            return Outcome(str(reason), self._item(args, context.item_id, "failed", str(reason)))
        url = f"data:image/{kind};base64,{b2a_base64(data, newline=False).decode()}"
        shown = f"{kind}, {len(data):,} bytes"
        return Outcome((InputImage(image_url=url),), self._item(args, context.item_id, "completed", shown))

    def _read(self, path: Path, named: str) -> tuple[str, bytes]:
        real = os.path.realpath(path)
        if any(is_below(real, hidden) for hidden in self._hidden):
            raise _Unusable(f"{named} is hidden from this thread.")
        try:
            # Neither a pipe without a writer nor a link put in place since may hold up or mislead the loop.
            fd = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise _Unusable(f"{named} cannot be read: {error.strerror}.") from None
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise _Unusable(f"{named} is not a regular file.")
            if found.st_size > _READ_LIMIT:
                raise _Unusable(f"{named} is too large: {found.st_size:,} bytes.")
            with os.fdopen(fd, "rb", closefd=False) as file:
                data = file.read(_READ_LIMIT)
        finally:
            os.close(fd)
        kind = image_kind(data)
        if kind is None:
            raise _Unusable(f"{named} is not a PNG, JPEG, GIF or WebP image.")
        return kind, data

    def _item(self, args: ImageArgs, item_id: str, status: Status, result: str) -> OtherToolCall:
        return OtherToolCall(id=item_id, tool="view_image", arguments={"path": args.path}, status=status, result=result)


def image_kind(data: bytes) -> str | None:
    """Return the subtype of the `image/` media type that the first bytes of `data` tell, or None."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return None


def _smaller(data: bytes, named: str) -> tuple[str, bytes]:
    """Return the image scaled down until it may be sent; Pillow does it, where it is installed."""
    from importlib import import_module
    from io import BytesIO

    try:
        pillow: Any = import_module("PIL.Image")
    except ImportError:
        size = len(data) / 1024 / 1024
        raise _Unusable(
            f"{named} has {size:.2f} MiB, and at most {SIZE_LIMIT / 1024 / 1024:.2f} can be sent; scale it down first."
        ) from None
    try:
        with pillow.open(BytesIO(data)) as image:
            kind = "PNG" if image.format in ("PNG", "GIF") else "JPEG"
            picture = image.convert("RGBA" if kind == "PNG" else "RGB")
        side = _LONGEST_SIDE
        while side >= 256:
            picture.thumbnail((side, side))
            out = BytesIO()
            picture.save(out, kind)
            if out.tell() <= SIZE_LIMIT:
                return kind.lower(), out.getvalue()
            side //= 2
    except (OSError, ValueError, pillow.DecompressionBombError) as error:
        raise _Unusable(f"{named} is too large to be sent, and scaling it down failed: {error}.") from None
    raise _Unusable(f"{named} is too large to be sent.")
