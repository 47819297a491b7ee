"""Servers of the Model Context Protocol as configuration, and their tools as Lathe's tools.

The connections themselves live in `mcp_pool.py`; the official SDK is imported there, late and only when a
server is configured, because it costs more than a second of CPU.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from lathe.models.base import ToolSpec
from lathe.protocol.codec import DecodeError, decode_json
from lathe.protocol.errors import ConfigError
from lathe.protocol.events import McpToolCall
from lathe.protocol.items import ContentPart, CustomToolCall, ToolCall
from lathe.tools.base import Access, CallExternal, MalformedCall, Outcome, ToolContext
from lathe.tools.json_schema import for_models

_NAME_LIMIT = 64
_DESCRIPTION_LIMIT = 2_048


class McpServer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One server: a `command` to start and talk to over its pipes, or the `url` of a streamable HTTP endpoint.

    A value of `env` or `headers` that reads `env:NAME` stands for the variable NAME of Lathe's own environment.
    `tools` lists the tools to offer, by the server's own names (None: all). Times are seconds: `timeout_s` for
    one call, `startup_timeout_s` from the start of the process to the list of its tools.
    """

    name: str
    command: str = ""
    args: tuple[str, ...] = ()
    env: dict[str, str] = {}
    cwd: str | None = None
    url: str = ""
    headers: dict[str, str] = {}
    tools: tuple[str, ...] | None = None
    timeout_s: float = 120.0
    startup_timeout_s: float = 30.0


def servers_from(tables: Mapping[str, Any], origin: str) -> tuple[McpServer, ...]:
    """Return the servers of a configuration's `mcp` tables, by name; `enabled = false` leaves one out.

    Raises `ConfigError`, which names `origin` (a file) and the key.
    """
    found = []
    for name, table in tables.items():
        where = f"mcp.{name} in {origin}"
        if not isinstance(table, Mapping):
            raise ConfigError(f"{where} is no table.", hint="Give it a command or a url.")
        fields = dict(table)
        if not fields.pop("enabled", True):
            continue
        try:
            server = msgspec.convert({**fields, "name": name}, McpServer, strict=True)
        except msgspec.ValidationError as error:
            raise ConfigError(f"{where} is wrong: {error}.", hint="See docs/mcp.md for the keys.") from error
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,32}", name):
            raise ConfigError(f"{where} has a bad name.", hint="Use up to 32 letters, digits, '-' and '_'.")
        if bool(server.command) == bool(server.url):
            raise ConfigError(f"{where} needs either a command or a url.", hint="Give exactly one of the two.")
        found.append(server)
    return tuple(found)


class ServerTool(NamedTuple):
    """A tool as its server lists it."""

    name: str
    description: str
    schema: Any
    read_only: bool


class CallAnswer(NamedTuple):
    """What a server answered: `parts` for the model, `structured` its structured content where it gave any."""

    parts: tuple[ContentPart, ...]
    structured: Any = None
    failed: bool = False


class CallFailed(Exception):
    """No answer came back; the message is one sentence for the model and the person."""


Caller = Callable[[str, dict[str, Any], bool], Awaitable[CallAnswer]]
"""Calls a tool by the server's name for it, with arguments; True where it only reads. Raises `CallFailed`."""


class McpArguments(msgspec.Struct, frozen=True):
    values: dict[str, Any]


class McpTool:
    """A tool of an MCP server."""

    def __init__(self, server: str, listed: ServerTool, name: str, call: Caller) -> None:
        self.server = server
        self.listed = listed
        schema, notes = for_models(listed.schema)
        described = [_cut(listed.description.strip() or f"{listed.name} of {server}"), *notes]
        self._spec = ToolSpec(name=name, description=" ".join(described), parameters=schema)
        self._call = call

    @property
    def spec(self) -> ToolSpec:
        return self._spec

    @property
    def parallel(self) -> bool:
        return self.listed.read_only

    def parse(self, call: ToolCall) -> McpArguments:
        if isinstance(call, CustomToolCall):
            raise MalformedCall(f"{self._spec.name} takes JSON arguments, not plain text.")
        return McpArguments(json_object(call.arguments, self._spec.name))

    def access(self, args: McpArguments, cwd: Path) -> tuple[Access, ...]:
        return (CallExternal(server=self.server, tool=self.listed.name, read_only=self.listed.read_only),)

    def begin(self, args: McpArguments, item_id: str) -> McpToolCall:
        return McpToolCall(
            id=item_id, server=self.server, tool=self.listed.name, arguments=args.values, status="in_progress"
        )

    async def run(self, args: McpArguments, context: ToolContext) -> Outcome:
        from lathe.tools.mcp_result import render

        shown = self.begin(args, context.item_id)
        try:
            answer = await self._call(self.listed.name, args.values, self.listed.read_only)
        except CallFailed as error:
            failed = msgspec.structs.replace(shown, status="failed", error={"message": str(error)})
            return Outcome(str(error), failed)
        return render(answer, shown, context)


def json_object(text: str, tool: str) -> dict[str, Any]:
    """Return the JSON object that a model wrote as the arguments of `tool`; raise `MalformedCall`."""
    try:
        value = decode_json(text) if text.strip() else {}
    except DecodeError as error:
        raise MalformedCall(f"The arguments of {tool} are no JSON: {error}.") from error
    if not isinstance(value, dict):
        raise MalformedCall(f"The arguments of {tool} must be a JSON object.")
    return value


def tool_name(server: str, tool: str, taken: set[str]) -> str:
    """Return `mcp__server__tool` in the letters that every wire takes, at most 64 and not in `taken`; add it there."""
    raw = f"mcp__{server}__{tool}"
    name = re.sub(r"[^a-zA-Z0-9_-]", "_", raw)
    attempt = 0
    while len(name) > _NAME_LIMIT or name in taken:
        mark = f"_{zlib.crc32(f'{raw}#{attempt}'.encode(errors='replace')):08x}"
        name = re.sub(r"[^a-zA-Z0-9_-]", "_", raw)[: _NAME_LIMIT - len(mark)] + mark
        attempt += 1
    taken.add(name)
    return name


def _cut(text: str) -> str:
    return text if len(text) <= _DESCRIPTION_LIMIT else text[: _DESCRIPTION_LIMIT - 1] + "…"
