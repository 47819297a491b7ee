"""All MCP servers of a configuration: started together, offered as tools, ended together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lathe.models.base import ToolSpec
from lathe.protocol.codec import encode
from lathe.tools.base import Tool
from lathe.tools.mcp import McpServer, McpTool, tool_name

if TYPE_CHECKING:
    from lathe.tools.mcp_connection import Connection
    from lathe.tools.mcp_stdio import Reaper
    from lathe.tools.tool_search import Catalogue

_DIRECT_TOOLS = 20
_DIRECT_BYTES = 36_000
"""About 10,000 tokens at 3.6 bytes each."""


class McpPool:
    """The servers of one configuration.

    `environ` is what a stdio server gets beside its own `env`: by default what commands get, without secrets.
    Relative paths of servers are of `cwd`. Close the pool whatever happens: it owns processes.
    """

    def __init__(
        self,
        servers: Sequence[McpServer],
        *,
        cwd: Path | None = None,
        environ: Mapping[str, str] | None = None,
        direct_tools: int = _DIRECT_TOOLS,
    ) -> None:
        self._servers = tuple(servers)
        self._cwd = cwd or Path.cwd()
        self._environ = environ
        self._direct_tools = direct_tools
        self._connections: list[Connection] = []
        self._sdk: asyncio.Task[Any] | None = None
        self._reaper: Reaper | None = None
        self._stale: set[str] = set()
        self._tools: tuple[McpTool, ...] = ()
        self._catalogue: Catalogue | None = None

    async def start(self) -> None:
        """Begin to start every server, in the background; with no servers this costs nothing."""
        if not self._servers or self._connections:
            return
        from lathe.tools.mcp_connection import Connection
        from lathe.tools.mcp_stdio import Reaper

        self._sdk = asyncio.create_task(asyncio.to_thread(_load_sdk), name="mcp sdk")
        self._reaper = Reaper()
        if any(server.command for server in self._servers):
            await self._reaper.start()
        self._connections = [
            Connection(
                server,
                sdk=self._sdk,
                reaper=self._reaper,
                environment=self._environment,
                cwd=self._cwd,
                changed=self._noticer(server.name),
            )
            for server in self._servers
        ]

    async def tools(self) -> list[Tool]:
        """Return what to offer the model, once every server is connected or has failed (see `problems`).

        Few tools are offered as they are; many are found with `tool_search` and called with `call_tool`, so that
        the head of a request stays small and the same. Tools of a server that never connected are left out.
        """
        for connection in self._connections:
            await connection.ready()
        self._collect()
        if self._tools and self._is_deferred():
            from lathe.tools.tool_search import CallTool, Catalogue, ToolSearch

            abouts = {connection.server.name: connection.about for connection in self._connections}
            if self._catalogue is None:
                self._catalogue = Catalogue()
            self._catalogue.fill(self._tools, abouts)
            return [ToolSearch(self._catalogue), CallTool(self._catalogue)]
        return list(self._tools)

    def find(self, name: str) -> Tool | None:
        """Return the tool of that name, offered directly or not."""
        return next((tool for tool in self._tools if tool.spec.name == name), None)

    def problems(self) -> tuple[str, ...]:
        """Return a sentence for each server that is not usable, and for each allowed tool that does not exist."""
        found = [connection.problem for connection in self._connections if connection.problem]
        for connection in self._connections:
            wanted = connection.server.tools
            if wanted is not None and not connection.problem:
                missing = sorted(set(wanted) - {tool.name for tool in connection.tools})
                found += [f"MCP server {connection.server.name} has no tool {name}." for name in missing]
        return tuple(found)

    async def refresh(self) -> tuple[str, ...]:
        """Take up the changes that servers announced; call it between turns.

        Returns a sentence for each server whose tools changed. Where tools are deferred, the change is in force at
        once and the request's head the same; where not, `tools` has the new list for whoever builds the next head.
        """
        stale, self._stale = self._stale, set()
        if not stale:
            return ()
        before = {tool.spec.name: tool.spec for tool in self._tools}
        for connection in self._connections:
            if connection.server.name in stale:
                await connection.relist()
        await self.tools()
        after = {tool.spec.name: tool.spec for tool in self._tools}
        return tuple(_difference(before, after, name) for name in sorted(stale) if _changed(before, after, name))

    @property
    def is_stale(self) -> bool:
        """Whether a server has announced that its tools changed since the last `refresh`."""
        return bool(self._stale)

    def pids(self) -> tuple[int, ...]:
        """Return the process ids of the stdio servers that run now."""
        return tuple(pid for connection in self._connections if (pid := connection.pid) is not None)

    async def aclose(self) -> None:
        """End every server; returns when their processes are gone, and kills them if it is cancelled."""
        try:
            await asyncio.gather(*(connection.aclose() for connection in self._connections))
        finally:
            for connection in self._connections:
                connection.kill()
            reaper, self._reaper = self._reaper, None
            if reaper is not None:
                await reaper.aclose()
            if self._sdk is not None:
                await asyncio.wait((self._sdk,))

    def _collect(self) -> None:
        taken: set[str] = set()
        self._tools = tuple(
            McpTool(
                connection.server.name, listed, tool_name(connection.server.name, listed.name, taken), connection.call
            )
            for connection in self._connections
            for listed in connection.tools
        )

    def _is_deferred(self) -> bool:
        # Once deferred, always deferred: the head of the requests is not to change with the number of tools.
        return (
            self._catalogue is not None
            or len(self._tools) > self._direct_tools
            or sum(len(encode(tool.spec)) for tool in self._tools) > _DIRECT_BYTES
        )

    def _noticer(self, name: str) -> Callable[[], None]:
        return lambda: self._stale.add(name)

    def _environment(self) -> Mapping[str, str]:
        if self._environ is not None:
            return self._environ
        from lathe.sandbox.environment import command_environment

        return command_environment()


def _load_sdk() -> None:
    import importlib
    import logging

    # Its warnings are for developers; without a handler Python prints them over the face.
    logging.getLogger("mcp").addHandler(logging.NullHandler())
    for name in ("mcp", "mcp.client.streamable_http", "mcp.client.subscriptions"):
        importlib.import_module(name)


def _of(specs: Mapping[str, ToolSpec], server: str) -> dict[str, ToolSpec]:
    return {name: spec for name, spec in specs.items() if name.startswith(f"mcp__{server}__")}


def _changed(before: Mapping[str, ToolSpec], after: Mapping[str, ToolSpec], server: str) -> bool:
    return _of(before, server) != _of(after, server)


def _difference(before: Mapping[str, ToolSpec], after: Mapping[str, ToolSpec], server: str) -> str:
    old, new = _of(before, server), _of(after, server)
    added = ", ".join(sorted(new.keys() - old.keys()))
    gone = ", ".join(sorted(old.keys() - new.keys()))
    altered = ", ".join(sorted(name for name in old.keys() & new.keys() if old[name] != new[name]))
    said = [f"new: {added}" if added else "", f"gone: {gone}" if gone else "", f"altered: {altered}" if altered else ""]
    return f"The tools of MCP server {server} have changed; {'; '.join(part for part in said if part)}."
