"""The options that every command with a turn shares."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from lathe.config.layers import Loaded, load_settings
from lathe.protocol.errors import UsageError
from lathe.protocol.items import InputImage

IMAGE_LIMIT = 20 * 2**20
_FLAGS = ("model", "provider", "sandbox", "approve")


def parser(command: str, description: str, *, headless: bool = True) -> argparse.ArgumentParser:
    """Return a parser with the shared options; `headless` adds those that shape the output."""
    parser = argparse.ArgumentParser(prog=f"lathe {command}".strip(), description=description, allow_abbrev=False)
    parser.add_argument("-C", "--cd", metavar="DIR", default=".", help="work in DIR")
    parser.add_argument("-m", "--model", help="model, or provider/model; `mend` is the embedded engine")
    parser.add_argument("--provider", help="provider to ask")
    parser.add_argument("-s", "--sandbox", choices=["read-only", "workspace-write", "danger-full-access"])
    parser.add_argument("-a", "--approve", choices=["never", "on-request", "untrusted"])
    parser.add_argument("--allow-host", metavar="HOST", action="append", default=[], help="let commands reach HOST")
    parser.add_argument(
        "--publish", metavar="PORT", type=int, action="append", default=[], help="open a sandbox's port"
    )
    parser.add_argument("-i", "--image", metavar="FILE", action="append", default=[], help="add an image to the prompt")
    parser.add_argument("-c", "--config", metavar="KEY=VALUE", action="append", default=[], help="set one setting")
    if not headless:
        return parser
    parser.add_argument("--json", action="store_true", help="print events on stdout, one JSON object a line")
    parser.add_argument("-o", "--output-last-message", metavar="FILE", help="write the last message to FILE")
    parser.add_argument("--output-schema", metavar="FILE", help="JSON Schema that the last message must follow")
    return parser


def parse(parser: argparse.ArgumentParser, argv: list[str]) -> argparse.Namespace:
    """Return the parsed options; options may stand between the words."""
    return parser.parse_intermixed_args(argv)


def working_directory(options: argparse.Namespace) -> Path:
    """Return the absolute folder to work in; raise `UsageError` where it is none."""
    folder = Path(options.cd).expanduser()
    if not folder.is_dir():
        raise UsageError(f"{options.cd} is not a folder.", hint="Give -C an existing one.")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise UsageError(f"The folder {options.cd} can't be read.", hint="Give -C one that you may enter.")
    return folder.resolve()


def settings_for(options: argparse.Namespace, cwd: Path, **defaults: Any) -> Loaded:
    """Return the settings, the options on top; `defaults` count where nothing else says anything."""
    flags: dict[str, Any] = {name: value for name in _FLAGS if (value := getattr(options, name)) is not None}
    egress = {"allow": options.allow_host, "publish": options.publish}
    if any(egress.values()):
        flags["egress"] = {key: value for key, value in egress.items() if value}
    loaded = load_settings(cwd=cwd, flags=flags, overrides=options.config, environ=os.environ, defaults=defaults)
    for warning in loaded.warnings:
        sys.stderr.write(f"lathe: {warning}\n")
    return loaded


def read_prompt(words: list[str], *, required: bool = True) -> str:
    """Return the prompt: the words, or standard input where the only word is `-`; raise `UsageError` if empty."""
    from_stdin = words == ["-"]
    text = sys.stdin.buffer.read().decode("utf-8", errors="replace") if from_stdin else " ".join(words)
    if not text.strip():
        if not required:
            return ""
        raise UsageError("The prompt is empty.", hint='Say what to do: lathe exec "Make the failing tests pass".')
    return text


def read_images(paths: list[str]) -> tuple[InputImage, ...]:
    """Return the images as data URLs; raise `UsageError` for a file that can't be read or is none."""
    if not paths:
        return ()
    import base64

    from lathe.tools.image import image_kind

    images = []
    for name in paths:
        try:
            data = Path(name).expanduser().read_bytes()
        except OSError as error:
            raise UsageError(f"The image {name} can't be read: {error.strerror}.") from None
        kind = image_kind(data)
        if kind is None:
            raise UsageError(f"{name} is no image that models take.", hint="Use PNG, JPEG, GIF or WebP.")
        if len(data) > IMAGE_LIMIT:
            raise UsageError(f"{name} is larger than {IMAGE_LIMIT >> 20} MiB.", hint="Scale it down.")
        images.append(InputImage(f"data:image/{kind};base64,{base64.b64encode(data).decode()}"))
    return tuple(images)


def read_schema(path: str | None) -> dict[str, Any] | None:
    """Return the JSON Schema in the file at `path`; raise `UsageError` where it is none."""
    if path is None:
        return None
    from lathe.protocol.codec import DecodeError, decode_json

    try:
        schema = decode_json(Path(path).expanduser().read_bytes())
    except OSError as error:
        raise UsageError(f"The schema {path} can't be read: {error.strerror}.") from None
    except (DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"The schema {path} is not JSON: {error}.") from None
    if not isinstance(schema, dict):
        raise UsageError(f"The schema {path} is not a JSON object.")
    return schema
