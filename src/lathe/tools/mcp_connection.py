"""One server, connected: started, asked for its tools, called, restarted once, and ended."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from lathe.tools.mcp import CallAnswer, CallFailed, McpServer, ServerTool
from lathe.tools.mcp_stdio import Reaper, ServerProcess, stdio_transport

_PAGES = 100
_GOODBYE_S = 2.0
"""How long an HTTP server may take to hear that its session is over."""

_RESTARTS = 1
"""How often a server that ended is started again without having answered a call in between."""


class Connection:
    """A server and the task that holds it open.

    The SDK's cancel scopes must be left by the task that entered them, so one task opens the connection, waits
    and closes it. Requests need no such care and are made by whoever calls.
    """

    def __init__(
        self,
        server: McpServer,
        *,
        sdk: asyncio.Task[Any],
        reaper: Reaper,
        environment: Callable[[], Mapping[str, str]],
        cwd: Path,
        changed: Callable[[], None],
    ) -> None:
        self.server = server
        self.tools: tuple[ServerTool, ...] = ()
        self.about = ""
        self.problem = ""
        self._sdk = sdk
        self._reaper = reaper
        self._environment = environment
        self._cwd = cwd
        self._changed = changed
        self._client: Any = None
        self._process: ServerProcess | None = None
        self._scope: Any = None
        self._ended = asyncio.Event()
        self._words = self._status = ""
        self._restarts = 0
        self._restarting = asyncio.Lock()
        self._closed = False
        self._open()

    async def ready(self) -> bool:
        """Wait until the server is connected or has failed; return whether it is connected."""
        await asyncio.wait((self._ready,))
        return self._client is not None

    async def call(self, tool: str, arguments: dict[str, Any], read_only: bool) -> CallAnswer:
        """Return the server's answer; raise `CallFailed`.

        A server that has ended is started again first. One that ends during the call is only asked again where
        the tool merely reads: what else it may have done is not known.
        """
        await self._revive()
        try:
            return await self._ask(tool, arguments)
        except _Lost as lost:
            if lost.tried and not read_only:
                raise CallFailed(f"{lost} It may or may not have done what {tool} was asked to do.") from lost
        await self._revive()
        try:
            return await self._ask(tool, arguments)
        except _Lost as lost:
            raise CallFailed(str(lost)) from lost

    @property
    def pid(self) -> int | None:
        """The process id of a stdio server that runs."""
        return self._process.pid if self._process is not None else None

    async def relist(self) -> None:
        """Ask for the tools again; a server that doesn't answer keeps the old list."""
        from mcp import MCPError

        if self._client is not None:
            try:
                self.tools = await self._list(self._client)
            except (MCPError, ValueError, TimeoutError):
                self._changed()

    async def aclose(self) -> None:
        """End the connection and its process; returns when both are gone."""
        self._closed = True
        self._stop()
        try:
            _, pending = await asyncio.wait((self._task,), timeout=_GOODBYE_S)
            if pending and self._scope is not None:
                self._scope.cancel()
            await asyncio.wait((self._task,))
        except asyncio.CancelledError:
            self.kill()
            raise

    def kill(self) -> None:
        """Kill the server's process, if it has one, without waiting."""
        if self._process is not None:
            self._process.kill()

    def _open(self) -> None:
        self._ended = asyncio.Event()
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._hold(), name=f"mcp {self.server.name}")
        self._task.add_done_callback(self._let_go)

    def _let_go(self, task: asyncio.Task[None]) -> None:
        self._client = self._scope = self._process = None
        if not task.cancelled() and (error := task.exception()) is not None:
            self.problem = self.problem or f"MCP server {self.server.name} failed: {error}."
        if not self._ready.done():
            self._ready.set_result(None)

    def _stop(self) -> None:
        self._ended.set()
        if self._client is None:
            # Still starting: end whatever it waits for. Before the SDK is there no process is either.
            if self._scope is None:
                self._task.cancel()
            else:
                self._scope.cancel()

    async def _hold(self) -> None:
        self.problem = self._words = self._status = ""
        try:
            await asyncio.shield(self._sdk)
        except ImportError as error:
            self.problem = f"MCP servers need the SDK, which is not here ({error}): pip install 'lathe[mcp]'."
            return
        import anyio

        server = self.server
        connected = False
        failure = ""
        try:
            with anyio.CancelScope(deadline=anyio.current_time() + server.startup_timeout_s) as self._scope:
                async with AsyncExitStack() as stack:
                    client = await self._connect(stack)
                    self.tools = await self._list(client)
                    self.about = (client.instructions or "").strip()
                    self._scope.deadline = math.inf
                    self._client, connected = client, True
                    self._ready.set_result(None)
                    await self._stay(client)
        except* Exception as errors:
            failure = _first(errors)
        said = self._process.said if self._process is not None else ""
        self._words = f' It said: "{said}".' if said else self._status
        if not connected and not self._closed:
            reason = f"did not start: {failure}" if failure else f"was not ready in {server.startup_timeout_s:g} s"
            self.problem = f"MCP server {server.name} {reason}.{self._words}"

    async def _connect(self, stack: AsyncExitStack) -> Any:
        from mcp import Client

        async def noticed(message: Any) -> None:
            if getattr(message, "method", "") == "notifications/tools/list_changed":
                self._changed()

        transport = await self._http(stack) if self.server.url else self._stdio()
        return await stack.enter_async_context(
            Client(transport, read_timeout_seconds=self.server.startup_timeout_s, message_handler=noticed, cache=None)
        )

    def _stdio(self) -> Any:
        server = self.server

        def started(process: ServerProcess) -> None:
            self._process = process

        return stdio_transport(
            (server.command, *server.args),
            env={**self._environment(), **_resolved(server.env)},
            cwd=str(self._cwd / server.cwd) if server.cwd else str(self._cwd),
            reaper=self._reaper,
            started=started,
            gone=self._ended.set,
        )

    async def _http(self, stack: AsyncExitStack) -> Any:
        import httpx2
        from mcp.client.streamable_http import streamable_http_client

        # A server may hold a response open for as long as the call is allowed to last.
        timeout = httpx2.Timeout(self.server.startup_timeout_s, read=self.server.timeout_s + 5)
        headers = _resolved(self.server.headers)
        client = await stack.enter_async_context(
            httpx2.AsyncClient(headers=headers, timeout=timeout, event_hooks={"response": [self._note_status]})
        )
        return streamable_http_client(self.server.url, http_client=client)

    async def _note_status(self, response: Any) -> None:
        # The SDK's errors leave out the status, which is what tells a wrong key from a wrong address.
        if response.status_code >= 400:
            self._status = f" It answered with HTTP status {response.status_code}."

    async def _stay(self, client: Any) -> None:
        import anyio
        from mcp_types.version import MODERN_PROTOCOL_VERSIONS

        offered = client.server_capabilities.tools
        listen = client.protocol_version in MODERN_PROTOCOL_VERSIONS and bool(offered and offered.list_changed)
        async with anyio.create_task_group() as group:
            if listen:
                group.start_soon(self._listen, client)
            await self._ended.wait()
            self._client = None
            group.cancel_scope.cancel()

    async def _listen(self, client: Any) -> None:
        from mcp import MCPError
        from mcp.client.subscriptions import SubscriptionLost

        try:
            async with client.listen(tools_list_changed=True) as events:
                async for _ in events:
                    self._changed()
        except (MCPError, SubscriptionLost, TimeoutError):
            return  # changes go unnoticed from here on; calls are not affected

    async def _list(self, client: Any) -> tuple[ServerTool, ...]:
        listed: list[ServerTool] = []
        cursor = None
        for _ in range(_PAGES):
            page = await client.list_tools(cursor=cursor)
            listed += [
                ServerTool(
                    name=tool.name,
                    description=tool.description or tool.title or "",
                    schema=tool.input_schema,
                    read_only=bool(tool.annotations and tool.annotations.read_only_hint),
                )
                for tool in page.tools
            ]
            cursor = page.next_cursor
            if not cursor:
                break
        wanted = self.server.tools
        return tuple(tool for tool in listed if wanted is None or tool.name in wanted)

    async def _ask(self, tool: str, arguments: dict[str, Any]) -> CallAnswer:
        from mcp import MCPError
        from mcp_types import CONNECTION_CLOSED, REQUEST_TIMEOUT

        from lathe.tools.mcp_result import answer_from

        client, name = self._client, self.server.name
        # Another call may open the next connection while this one waits; what it may end is its own.
        ended, task = self._ended, self._task
        if client is None:
            raise _Lost(f"MCP server {name} has ended.{self._words}", tried=False)
        try:
            result = await client.call_tool(tool, arguments, read_timeout_seconds=self.server.timeout_s)
        except MCPError as error:
            if error.code == REQUEST_TIMEOUT:
                raise CallFailed(
                    f"{tool} of MCP server {name} gave no answer in {self.server.timeout_s:g} s."
                ) from error
            if error.code == CONNECTION_CLOSED or _session_ended(error):
                ended.set()
                await asyncio.wait((task,))
                refused = error.code != CONNECTION_CLOSED
                raise _Lost(f"MCP server {name} ended while {tool} ran.{self._words}", tried=not refused) from error
            raise CallFailed(f"MCP server {name} refused {tool}: {error.message}") from error
        except (RuntimeError, ValueError) as error:
            raise CallFailed(f"MCP server {name} answered {tool} with nonsense: {error}") from error
        self._restarts = 0
        return answer_from(result)

    async def _revive(self) -> None:
        """Start a server that has ended once more; raise `CallFailed` where that is not to be done or fails."""
        async with self._restarting:
            if self._client is not None and not self._ended.is_set():
                return
            await asyncio.wait((self._task,))
            name = self.server.name
            if self._closed:
                raise CallFailed(f"MCP server {name} is closed.")
            if self.server.command and self._restarts >= _RESTARTS:
                raise CallFailed(f"MCP server {name} has ended again after a restart and is not started any more.")
            self._restarts += 1
            self._open()
            if not await self.ready():
                raise CallFailed(self.problem or f"MCP server {name} did not start.")


class _Lost(Exception):
    """The connection broke under a call; `tried` unless the server is known not to have begun it."""

    def __init__(self, message: str, *, tried: bool) -> None:
        super().__init__(message)
        self.tried = tried


def _session_ended(error: Any) -> bool:
    # The HTTP transport reports a 404 for a session that the server no longer knows in this way.
    return "session terminated" in error.message.lower()


def _first(errors: BaseExceptionGroup[Any]) -> str:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return (str(error) or type(error).__name__).strip().rstrip(".")


def _resolved(values: Mapping[str, str]) -> dict[str, str]:
    """Return `values` with `env:NAME` replaced; raise `ValueError` for a variable that is not set."""
    result = {}
    for key, value in values.items():
        if value.startswith("env:"):
            name = value[4:]
            if name not in os.environ:
                raise ValueError(f"its {key} wants the environment variable {name}, which is not set")
            value = os.environ[name]
        result[key] = value
    return result
