"""`view_image`, on real files."""

from __future__ import annotations

import os
import random
import sys
from base64 import b64decode
from importlib.util import find_spec
from pathlib import Path

import pytest

from lathe.protocol.items import FunctionCall, InputImage
from lathe.sandbox.policy import PathRules, SandboxPolicy
from lathe.tools.base import MalformedCall, ToolContext
from lathe.tools.image import SIZE_LIMIT, ViewImageTool, image_kind

PNG = b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")


async def view(folder: Path, path: str, hidden=(), policy=None):
    context = ToolContext(folder, policy or SandboxPolicy(), folder, "item_1", lambda item: None, lambda text: None)
    tool = ViewImageTool(hidden)
    return await tool.run(tool.parse(FunctionCall("c", "view_image", f'{{"path": "{path}"}}')), context)


async def test_an_image_reaches_the_model_as_a_data_url(tmp_path):
    (tmp_path / "dot.dat").write_bytes(PNG)
    outcome = await view(tmp_path, "dot.dat")
    (image,) = outcome.output
    assert isinstance(image, InputImage)
    kind, _, data = image.image_url.partition(";base64,")
    assert kind == "data:image/png"
    assert b64decode(data) == PNG
    assert outcome.item.status == "completed"


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (PNG, "png"),
        (b"\xff\xd8\xff\xe0rest", "jpeg"),
        (b"GIF89a...", "gif"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "webp"),
        (b"RIFF\0\0\0\0WAVEfmt ", None),
        (b"<svg/>", None),
        (b"", None),
    ],
)
def test_the_kind_is_told_by_the_first_bytes(start, kind):
    assert image_kind(start) == kind


async def test_what_is_no_image_is_refused_in_a_sentence(tmp_path):
    (tmp_path / "notes.png").write_text("words")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    assert (await view(tmp_path, "notes.png")).output == "notes.png is not a PNG, JPEG, GIF or WebP image."
    assert (await view(tmp_path, "gone.png")).output == "gone.png cannot be read: No such file or directory."
    assert (await view(tmp_path, "folder")).output == "folder is not a regular file."
    assert (await view(tmp_path, "pipe")).output == "pipe is not a regular file."
    assert (await view(tmp_path, "gone.png")).item.status == "failed"


async def test_a_hidden_file_stays_hidden_through_links(tmp_path):
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "scan.png").write_bytes(PNG)
    (tmp_path / "link.png").symlink_to(secret / "scan.png")
    (tmp_path / "secretive.png").write_bytes(PNG)
    for path in ("secret/scan.png", "link.png", "secret/../secret/scan.png"):
        assert (await view(tmp_path, path, [str(secret)])).output == f"{path} is hidden from this thread."
    assert (await view(tmp_path, "secretive.png", [str(secret)])).item.status == "completed"


async def test_a_large_image_is_refused_where_nothing_can_scale_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    (tmp_path / "large.png").write_bytes(PNG + bytes(SIZE_LIMIT))
    outcome = await view(tmp_path, "large.png")
    assert outcome.output == "large.png has 3.75 MiB, and at most 3.75 can be sent; scale it down first."


@pytest.mark.skipif(find_spec("PIL") is None, reason="Pillow is not here")
async def test_a_large_image_is_scaled_down_where_pillow_is_installed(tmp_path):
    from PIL import Image

    noise = random.Random(1).randbytes(3000 * 2000 * 3)
    Image.frombytes("RGB", (3000, 2000), noise).save(tmp_path / "large.png")
    assert (tmp_path / "large.png").stat().st_size > SIZE_LIMIT
    (image,) = (await view(tmp_path, "large.png")).output
    assert len(b64decode(image.image_url.partition(",")[2])) <= SIZE_LIMIT


def test_a_path_is_needed():
    with pytest.raises(MalformedCall):
        ViewImageTool().parse(FunctionCall("c", "view_image", '{"path": ""}'))


async def test_what_commands_do_not_see_is_not_shown_either(tmp_path):
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "dot.png").write_bytes(PNG)
    rules = PathRules(hide=(f"{tmp_path}/priv*",))
    policy = SandboxPolicy(writable_roots=(str(tmp_path),), paths=rules)
    assert (await view(tmp_path, "private/dot.png", policy=policy)).output == (
        "private/dot.png is hidden from this thread."
    )
