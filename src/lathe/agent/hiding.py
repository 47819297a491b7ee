"""Secrets between a thread and its tools: put into a call's arguments, taken out of whatever comes back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from lathe.config.settings import Settings
from lathe.protocol.codec import DecodeError, decode_json, encode
from lathe.protocol.events import ErrorItem, Event, ItemCompleted
from lathe.protocol.items import CustomToolCall, InputImage, ToolCall, ToolOutput
from lathe.sandbox.environment import is_secret_name
from lathe.tools.base import MalformedCall

if TYPE_CHECKING:
    from lathe.agent.calls import Sink
    from lathe.guard.vault import Vault

T = TypeVar("T")

_PREFIX = "LATHE_SECRET_"
_COMMANDS = ("cmd", "command")
_SHELLS = ("-c", "-lc")


def make_vault(settings: Settings, home: Path, environ: Mapping[str, str], secret_names: tuple[str, ...]) -> Vault:
    """Return a vault for one thread; raise `ConfigError` where the person's own rules are wrong.

    Known from the start are the values of variables that hold keys by configuration or by their name.
    """
    from lathe.guard.secret_rules import load_secret_rules
    from lathe.guard.vault import Vault

    own = Path(settings.secret_rules) if settings.secret_rules is not None else None
    loaded = load_secret_rules(own) if own is not None else None
    names = frozenset(name.upper() for name in secret_names)
    known = [
        (value, "variable")
        for name, value in environ.items()
        if name.upper() in names or (is_secret_name(name) and not _names_a_file(value))
    ]
    return Vault(home, lambda: loaded or load_secret_rules(), known)


def _names_a_file(value: str) -> bool:
    """Return whether a value is the path of something: of a socket or a file of credentials, not a secret itself."""
    return value.startswith("/") and len(value) < 4096 and Path(value).exists()


def revealed(call: ToolCall, vault: Vault) -> ToolCall:
    """Return the call with the values in the place of placeholders; raise `MalformedCall` where one is not known.

    In a command a value is quoted as its place in the line asks for, in JSON as JSON does.
    """
    text = call.input if isinstance(call, CustomToolCall) else call.arguments
    if _PREFIX not in text:
        return call
    from lathe.guard.vault import UnknownPlaceholder

    try:
        with_values = _revealed_arguments(text, vault)
    except UnknownPlaceholder as error:
        raise MalformedCall(str(error)) from None
    if isinstance(call, CustomToolCall):
        return msgspec.structs.replace(call, input=with_values)
    return msgspec.structs.replace(call, arguments=with_values)


def _revealed_arguments(text: str, vault: Vault) -> str:
    try:
        value = decode_json(text)
    except (DecodeError, UnicodeError, RecursionError):
        return vault.reveal(text, _in_json if text.lstrip().startswith("{") else None)
    return encode(_revealed(value, vault)).decode()


def _in_json(_text: str, _at: int, value: str) -> str:
    return encode(value).decode()[1:-1]


def _revealed(value: Any, vault: Vault, key: str = "") -> Any:
    match value:
        case str() if _PREFIX in value:
            return _revealed_text(value, vault, key)
        case [shell, flag, str() as script] if key in _COMMANDS and flag in _SHELLS:
            return [shell, flag, _revealed(script, vault, key)]
        case list():
            return [_revealed(one, vault) for one in value]
        case dict():
            return {name: _revealed(one, vault, name) for name, one in value.items()}
        case _:
            return value


def _revealed_text(text: str, vault: Vault, key: str) -> str:
    if key in _COMMANDS:
        from lathe.guard.shell_quoting import quoted_at

        return vault.reveal(text, quoted_at)
    if not key and text.lstrip().startswith("{"):  # arguments that were encoded twice
        try:
            return encode(_revealed(decode_json(text), vault)).decode()
        except (DecodeError, UnicodeError, RecursionError):
            pass
    return vault.reveal(text)


def hidden(value: T, hide: Callable[[str], str]) -> T:
    """Return `value` (text, an item, an event, and what they are made of) with `hide` applied to every text in it."""
    return _hidden(value, hide)  # type: ignore[no-any-return]


def _hidden(value: Any, hide: Callable[[str], str]) -> Any:
    match value:
        case str():
            return hide(value)
        case InputImage():
            return value
        case tuple() | list():
            return type(value)(_hidden(one, hide) for one in value)
        case dict():
            return {_hidden(key, hide): _hidden(one, hide) for key, one in value.items()}
        case msgspec.Struct():
            fields = {name: getattr(value, name) for name in value.__struct_fields__}
            changed = {name: new for name, old in fields.items() if (new := _hidden(old, hide)) != old}
            return msgspec.structs.replace(value, **changed) if changed else value
        case _:
            return value


class HidingSink:
    """A sink before `sink` through which no secret goes. The person is told once that secrets were hidden."""

    def __init__(self, sink: Sink, vault: Vault) -> None:
        self._sink = sink
        self._vault = vault

    def answered(self, output: ToolOutput, event: Event) -> None:
        self._sink.answered(hidden(output, self._vault.hide), hidden(event, self._vault.hide))
        if not self._vault.told and (message := self._vault.summary()):
            self._vault.told = True
            self._sink.emit(ItemCompleted(ErrorItem(self._sink.next_item_id(), message)))

    def is_answered(self, call_id: str) -> bool:
        return self._sink.is_answered(call_id)

    def emit(self, event: Event) -> None:
        self._sink.emit(hidden(event, self._vault.hide))

    def show(self, event: Event) -> None:
        self._sink.show(hidden(event, self._vault.hide))

    def next_item_id(self) -> str:
        return self._sink.next_item_id()
