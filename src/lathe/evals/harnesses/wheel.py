"""Lathe as a wheel, made of the package that runs: what is measured in a container is what is installed here.

The format is the binary distribution format of PyPA
(https://packaging.python.org/specifications/binary-distribution-format/). A build by the package's own back end would
need its source and a registry, and an environment that a tool made for Harbor has often neither.
"""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from lathe.protocol.errors import ConfigError

_WHEEL = "Wheel-Version: 1.0\nGenerator: lathe\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
_EPOCH = (2020, 1, 1, 0, 0, 0)


def make_wheel(folder: Path) -> Path:
    """Write a wheel of the running Lathe to `folder` and return its path; the same code gives the same bytes.

    Raises `ConfigError` where Lathe was not installed (it runs from a folder on the path), for nothing says then what
    it depends on.
    """
    import lathe

    try:
        installed = metadata.distribution("lathe")
    except metadata.PackageNotFoundError:
        raise ConfigError("Lathe is not installed here, so no wheel can be made of it.", hint="Name one.") from None
    about = f"lathe-{installed.version}.dist-info"
    target = folder / f"lathe-{installed.version}-py3-none-any.whl"
    record = []
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as wheel:
        own = Path(lathe.__file__).parent
        told = [("METADATA", installed.read_text("METADATA")), ("WHEEL", _WHEEL)]
        told.append(("entry_points.txt", installed.read_text("entry_points.txt")))
        files = [(f"lathe/{path.relative_to(own).as_posix()}", path.read_bytes()) for path in _files(own)]
        files += [(f"{about}/{name}", (text or "").encode()) for name, text in told]
        for name, content in files:
            _add(wheel, name, content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            record.append(f"{name},sha256={digest},{len(content)}")
        _add(wheel, f"{about}/RECORD", "\n".join([*record, f"{about}/RECORD,,", ""]).encode())
    return target


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path


def _add(wheel: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    wheel.writestr(entry, content)
