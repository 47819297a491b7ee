"""A server's process and the pipes to it, as the SDK's transport.

The SDK's own stdio transport hides the process: it can't be killed at once when Lathe is torn down, what the
process said on stderr is lost, and a server that ends by itself leaves its descendants behind. Here the whole
process group ends with the transport, whatever the way out, and with Lathe itself (`Reaper`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

_STDIN_GRACE_S = 1.0
_TERM_GRACE_S = 1.0
_KILL_WAIT_S = 2.0
_LAST_WORDS_S = 0.2
_POLL_S = 0.01
_BLOCK = 1 << 16
_LINE_LIMIT = 64 << 20
_TAIL = 2_000

_REAPER = """
groups=
while read -r sign group; do
  kept=
  for known in $groups; do [ "$known" = "$group" ] || kept="$kept $known"; done
  groups=$kept
  [ "$sign" = - ] || groups="$groups $group"
done
for group in $groups; do kill -9 "-$group"; done
"""


class Reaper:
    """A shell that outlives Lathe for a moment: it kills the groups told to it when its pipe to Lathe closes."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start the shell; without one (no /bin/sh) servers still end when their stdin closes."""
        with contextlib.suppress(OSError):
            self._process = await asyncio.create_subprocess_exec(
                "/bin/sh",
                "-c",
                _REAPER,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,
                env={},
                cwd="/",
            )

    def watch(self, group: int) -> None:
        self._tell(f"+ {group}\n")

    def forget(self, group: int) -> None:
        self._tell(f"- {group}\n")

    async def aclose(self) -> None:
        """Let the shell end; groups still watched are killed."""
        if self._process is None:
            return
        process, self._process = self._process, None
        if process.stdin is not None:
            process.stdin.close()
        await process.wait()

    def _tell(self, line: str) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.write(line.encode())


class ServerProcess:
    """A started server: its group, and the end of what it wrote to stderr."""

    def __init__(self, process: asyncio.subprocess.Process, reaper: Reaper) -> None:
        self.pid = process.pid
        self._process = process
        self._reaper = reaper
        self._stderr = ""
        self._listener = asyncio.create_task(self._read_stderr())
        reaper.watch(self.pid)

    @property
    def said(self) -> str:
        """The last words on stderr, on one line; "" where there were none."""
        lines = [" ".join(line.split()) for line in self._stderr.splitlines() if line.strip()]
        return " ".join(lines[-3:])[-400:]

    def kill(self) -> None:
        """Kill the whole group now; waits for nothing."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    async def _read_stderr(self) -> None:
        stream = self._process.stderr
        assert stream is not None
        while block := await stream.read(_BLOCK):
            self._stderr = (self._stderr + block.decode(errors="replace"))[-_TAIL:]

    async def end(self) -> None:
        """End the group: stdin closes, then SIGTERM, then SIGKILL (MCP, lifecycle, shutdown of stdio servers)."""
        try:
            assert self._process.stdin is not None
            self._process.stdin.close()
            await _until(lambda: self._process.returncode is not None, _STDIN_GRACE_S)
            self._signal(signal.SIGTERM)
            await _until(lambda: not self._alive(), _TERM_GRACE_S)
        finally:
            self.kill()
            self._reaper.forget(self.pid)
        await _until(lambda: self._process.returncode is not None, _KILL_WAIT_S)
        await asyncio.wait((self._listener,), timeout=_LAST_WORDS_S)

    def close_pipes(self) -> None:
        """Close the pipes even where a process that left the group still holds their other ends."""
        self._listener.cancel()
        # asyncio offers no public way; unclosed, the transport warns when it is collected.
        transport: Any = getattr(self._process, "_transport", None)
        if transport is not None:
            with contextlib.suppress(PermissionError):
                transport.close()

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def _alive(self) -> bool:
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True


async def _until(reached: Callable[[], bool], limit_s: float) -> None:
    # Polled, because `Process.wait` also waits for pipes that a grandchild may hold open.
    for _ in range(round(limit_s / _POLL_S)):
        if reached():
            return
        await asyncio.sleep(_POLL_S)


@contextlib.asynccontextmanager
async def stdio_transport(
    command: tuple[str, ...],
    *,
    env: Mapping[str, str],
    cwd: str,
    reaper: Reaper,
    started: Callable[[ServerProcess], None],
    gone: Callable[[], None],
) -> AsyncIterator[tuple[Any, Any]]:
    """Yield the streams that the SDK's client reads and writes; `gone` is called when the server's stdout ends.

    Raises `OSError` where the command can't be started.
    """
    import anyio

    # Held off while it starts: anyio cancels again and again, and asyncio would let go of a half-started process.
    with anyio.CancelScope(shield=True):
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=dict(env),
            cwd=cwd,
            start_new_session=True,
        )
    server = ServerProcess(process, reaper)
    started(server)
    assert process.stdin is not None and process.stdout is not None
    to_client, from_server = anyio.create_memory_object_stream[Any](0)
    to_server, from_client = anyio.create_memory_object_stream[Any](0)
    try:
        async with anyio.create_task_group() as group, to_client, from_server, to_server, from_client:
            group.start_soon(_read, process.stdout, to_client, gone)
            group.start_soon(_write, process.stdin, from_client)
            try:
                yield from_server, to_server
            finally:
                group.cancel_scope.cancel()
    finally:
        # A cancellation through anyio is held off; a bare task.cancel() isn't, and then `end` kills at once.
        try:
            with anyio.CancelScope(shield=True):
                await server.end()
        finally:
            server.close_pipes()


async def _read(stdout: asyncio.StreamReader, to_client: Any, gone: Callable[[], None]) -> None:
    import anyio
    from mcp.shared.message import SessionMessage
    from mcp_types import jsonrpc_message_adapter

    buffer = bytearray()
    try:
        while block := await stdout.read(_BLOCK):
            start = len(buffer)
            buffer += block
            if (end := buffer.rfind(b"\n", start)) < 0:
                if len(buffer) > _LINE_LIMIT:
                    break
                continue
            lines = bytes(buffer[:end]).split(b"\n")
            del buffer[: end + 1]
            for line in lines:
                try:
                    message = jsonrpc_message_adapter.validate_json(line, by_name=False)
                except ValueError:
                    continue  # servers print banners and logs there; whatever is no message is not for us
                await to_client.send(SessionMessage(message))
    except (anyio.BrokenResourceError, anyio.ClosedResourceError, ConnectionError):
        pass
    finally:
        to_client.close()
        gone()


async def _write(stdin: asyncio.StreamWriter, from_client: Any) -> None:
    try:
        async for sent in from_client:
            text = sent.message.model_dump_json(by_alias=True, exclude_unset=True)
            stdin.write(text.encode() + b"\n")
            await stdin.drain()
    except (ConnectionError, RuntimeError):
        # The server is gone; its stdout says so to the session too.
        from_client.close()
