"""A person at a real terminal: tmux holds it, keys go in, and what stands on the screen is read back."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from running import environment

DEADLINE_S = 30.0


class Terminal:
    """One tmux server with one pane."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self._env = env | {"TMUX_TMPDIR": str(folder), "TERM": "xterm-256color", "LANG": "C.UTF-8"}

    async def start(self, command: str, cwd: Path, width: int, height: int) -> None:
        await self._tmux(
            "-f", "/dev/null", "new-session", "-d", "-x", str(width), "-y", str(height), "-c", str(cwd), command
        )

    async def close(self) -> None:
        with contextlib.suppress(AssertionError):
            await self._tmux("kill-server")

    async def type(self, text: str, *keys: str) -> None:
        """Type text, then press keys by tmux's names (`Enter`, `C-c`, `Escape`)."""
        if text:
            await self._tmux("send-keys", "-l", "--", text)
        if keys:
            await self._tmux("send-keys", *keys)

    async def enter(self, text: str) -> None:
        await self.type(text, "Enter")

    async def paste(self, text: str) -> None:
        await self._tmux("load-buffer", "-", stdin=text.encode())
        await self._tmux("paste-buffer", "-p")

    async def resize(self, width: int, height: int) -> None:
        await self._tmux("resize-window", "-x", str(width), "-y", str(height))

    async def text(self) -> str:
        """All lines, those that scrolled away too; wrapped lines are joined."""
        return await self._tmux("capture-pane", "-p", "-J", "-S", "-")

    async def sees(self, pattern: str) -> str:
        """Wait until `pattern` stands in the text; return the text."""
        return await self._until(pattern, there=True)

    async def sees_no(self, pattern: str) -> str:
        """Wait until `pattern` is gone; return the text."""
        return await self._until(pattern, there=False)

    async def _until(self, pattern: str, *, there: bool) -> str:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + DEADLINE_S
        while True:
            text = await self.text()
            if bool(re.search(pattern, text, re.MULTILINE)) == there:
                return text
            over = loop.time() > deadline or re.search(r"^left with [1-9]", text, re.MULTILINE)
            assert not over, f"{pattern!r} is {'not' if there else 'still'} on the screen:\n{text}"
            await asyncio.sleep(0.03)

    async def _tmux(self, *arguments: str, stdin: bytes = b"") -> str:
        process = await asyncio.create_subprocess_exec(
            "tmux",
            *arguments,
            env=self._env,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate(stdin)
        assert process.returncode == 0, err.decode()
        return out.decode()


@contextlib.asynccontextmanager
async def talking(
    *args: str, cwd: Path, base_url: str = "http://127.0.0.1:1/v1", width: int = 100, height: int = 40
) -> AsyncIterator[Terminal]:
    """`lathe -m scripted-1 ARGS` in a terminal, at its first prompt; when it ends, its exit code is shown."""
    # A socket's path may have about 100 bytes, which pytest's folders need for themselves.
    folder = Path(tempfile.mkdtemp(prefix="lt-"))
    terminal = Terminal(folder, environment(base_url))
    argv = [*args] if args[:1] == ("resume",) else ["-m", "scripted-1", *args]
    command = shlex.join([sys.executable, "-m", "lathe", *argv])
    await terminal.start(f"{command}; echo left with $?; exec cat", cwd, width, height)
    try:
        await terminal.sees("^› ?")
        yield terminal
    finally:
        await terminal.close()
        shutil.rmtree(folder, ignore_errors=True)
