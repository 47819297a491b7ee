"""Files that people review: strict YAML, read into structs, and a hash that layout and comments don't change."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from lathe.protocol.errors import ConfigError

_LARGEST = 1_000_000
_T = TypeVar("_T")


def read_reviewed(path: Path, shape: type[_T]) -> _T:
    """Return what a YAML file (1.1, the safe part) says, as a `shape`.

    Raises `ConfigError` with one sentence: no such file, no YAML, a key twice, an alias, a field that is unknown,
    missing or of another type.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}.", code="guard_file") from None
    if len(text) > _LARGEST:
        raise ConfigError(f"{path} is larger than {_LARGEST:,} bytes.", code="guard_file")
    try:
        return msgspec.convert(_plain(text, path), shape)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path} is not what it should be: {error}.", code="guard_file") from None


def content_hash(value: Any) -> str:
    """Return the SHA-256, in hexadecimal, of a struct or plain value: its JSON with all keys in order."""
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()


def _plain(text: bytes, path: Path) -> Any:
    import yaml

    quick = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class Strict(quick):  # type: ignore[misc,valid-type]
        """YAML without what makes a review miss something: a key that stands twice, an alias."""

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            names = [key.value for key, _ in node.value if isinstance(key.value, str)]
            for at, name in enumerate(names):
                if name in names[:at]:
                    mark = node.value[at][0].start_mark
                    raise yaml.MarkedYAMLError(problem=f"the key {name!r} stands twice", problem_mark=mark)
            return super().construct_mapping(node, deep)

    try:
        for event in yaml.parse(text, quick):
            if isinstance(event, yaml.AliasEvent):
                at: Any = event.start_mark
                raise yaml.MarkedYAMLError(problem="an alias is not taken", problem_mark=at)
        return yaml.load(text, Strict)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{path}{line}: {error.problem or error.context}.", code="guard_file") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"{path} is no YAML: {first}.", code="guard_file") from None
