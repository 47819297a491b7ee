"""A thread on a real workshop, with a scripted model at the other end of a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from lathe.agent.thread import Surface, Thread
from lathe.agent.workshop import Workshop
from lathe.cli.engine import open_engine
from lathe.config.settings import Settings
from lathe.models.script import Step
from lathe.models.scripted import ScriptedServer
from lathe.protocol.events import Event
from lathe.protocol.items import user_message
from lathe.store.threads import spill_dir

INPUTS = {"responses": b'"input":', "chat": b'"messages":', "messages": b'"messages":'}


class Bench:
    """`run` runs one turn and keeps its events; `server.requests` holds what the model was sent."""

    def __init__(self, thread: Thread, surface: Surface, server: ScriptedServer, wire: str) -> None:
        self.thread = thread
        self.surface = surface
        self.server = server
        self.wire = wire
        self.events: list[Event] = []

    async def run(self, prompt: str, watch: Callable[[Event], None] | None = None) -> list[Event]:
        events = []
        async for event in self.thread.run(user_message(prompt), self.surface):
            events.append(event)
            self.events.append(event)
            if watch is not None:
                watch(event)
        return events

    def input(self, number: int) -> bytes:
        """The raw bytes of request `number`'s conversation, without the bracket that ends it."""
        return conversation(self.server.requests[number].body, INPUTS[self.wire])

    def said(self, number: int) -> str:
        return self.input(number).decode()


def conversation(body: bytes, key: bytes) -> bytes:
    start = body.index(key) + len(key)
    depth, inside, at = 0, False, start
    while True:
        char = body[at : at + 1]
        if inside:
            if char == b"\\":
                at += 1
            elif char == b'"':
                inside = False
        elif char == b'"':
            inside = True
        elif char in b"[{":
            depth += 1
        elif char in b"]}":
            depth -= 1
            if depth == 0:
                return body[start:at]
        at += 1


@asynccontextmanager
async def bench(
    cwd: Path,
    home: Path,
    steps: Iterable[Step] | Callable[..., Step],
    *,
    wire: str = "responses",
    thread: Thread | None = None,
    ask_approval: Any = None,
    ask_user: Any = None,
    deltas: bool = False,
    **settings: Any,
) -> AsyncIterator[Bench]:
    async with ScriptedServer(steps) as server:
        chosen = Settings(
            **{
                "model": "scripted-1",
                "provider": "local",
                "approve": "never",
                "providers": {"local": {"base_url": server.base_url, "wire": wire}},
                **settings,
            }
        )
        opened = thread or Thread.start(home, cwd)
        workshop = Workshop(
            chosen,
            open_engine(chosen, {}),
            home=home,
            cwd=cwd,
            spill=spill_dir(home, opened.id),
            environ={"HOME": str(home), "PATH": "/usr/bin:/bin"},
            ask_approval=ask_approval,
            ask_user=ask_user,
            deltas=deltas,
        )
        try:
            yield Bench(opened, await workshop.open(opened.items), server, wire)
        finally:
            await workshop.aclose()
            opened.close()
