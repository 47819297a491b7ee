"""A real Chromium before a real console over HTTP, with passkeys from a virtual authenticator."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import uvicorn
import uvloop
from installation import Clock, open_services, populate
from playwright.sync_api import Browser, BrowserContext, Page
from starlette.applications import Starlette

from lathe.gateway.console import routes as console
from lathe.gateway.guarding.reporting import report_route
from lathe.gateway.identity import passkeys
from lathe.gateway.identity.entrance import open_entrance
from lathe.gateway.identity.site import Site
from lathe.gateway.services import Services
from lathe.store.gateway.database import Database, sqlite_url

_T = TypeVar("_T")

_FOCUSED = """() => {
  const element = document.activeElement
  const text = element.labels?.[0]?.textContent ?? element.textContent ?? ''
  return [element.tagName, text.replace(/\\s+/g, ' ').trim(), element.value ?? '']
}"""


class House:
    """A gateway's console that is being served; `run` does something in its event loop."""

    def __init__(self, home: Path, port: int = 0, **settings: Any) -> None:
        self.clock = Clock()
        self.socket = socket.create_server(("127.0.0.1", port))
        self.port = self.socket.getsockname()[1]
        self.url = f"http://localhost:{self.port}"
        self.site = Site(self.url, "localhost")
        self.services: Services
        self._loop = uvloop.new_event_loop()  # as `lathe serve` has it
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        home.mkdir(parents=True, exist_ok=True)
        self._home = home
        self._settings = settings
        self._database = Database(sqlite_url(home / "gateway.sqlite"))
        self._server: uvicorn.Server
        self._tasks: list[asyncio.Task[None]] = []
        self.run(self._open())

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    async def _open(self) -> None:
        await self._database.migrate()
        await populate(self._database)
        self.services = await open_services(self._database, self._home, self.clock, **self._settings)
        app = Starlette(routes=[*console.routes(open_entrance(self.services)), report_route(self.services)])
        config = uvicorn.Config(app, ws="none", lifespan="off", log_level="warning", access_log=False)
        self._server = uvicorn.Server(config)
        self._server.install_signal_handlers = lambda: None  # type: ignore[method-assign]
        self._tasks = [
            asyncio.create_task(self._server.serve(sockets=[self.socket])),
            asyncio.create_task(self.services.directory.watch()),
        ]
        while not self._server.started:
            await asyncio.sleep(0.01)

    def invite(self, user: str) -> str:
        """Return a link by which a user enrols a passkey."""

        async def invited() -> str:
            async with self._database.begin() as connection:
                return await passkeys.invite(connection, user, self.clock())

        return passkeys.invitation_link(self.site, self.run(invited()))

    async def _close(self) -> None:
        self._server.should_exit = True
        await self._tasks[0]
        self._tasks[1].cancel()
        await asyncio.gather(self._tasks[1], return_exceptions=True)
        await self._database.aclose()
        await self._loop.shutdown_default_executor()

    def close(self) -> None:
        self.run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Person:
    """Somebody at a browser of their own, with a device that makes passkeys; `faults` is what its console said."""

    def __init__(self, browser: Browser, house: House, **options: Any) -> None:
        self.house = house
        self.context: BrowserContext = browser.new_context(base_url=house.url, **options)
        self.page: Page = self.context.new_page()
        self.faults: list[str] = []
        self.page.on("console", self._listen)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self._devtools = self.context.new_cdp_session(self.page)
        self._devtools.send("WebAuthn.enable")
        made = self._devtools.send(
            "WebAuthn.addVirtualAuthenticator",
            {
                "options": {
                    "protocol": "ctap2",
                    "transport": "internal",
                    "hasResidentKey": True,
                    "hasUserVerification": True,
                    "isUserVerified": True,
                    "automaticPresenceSimulation": True,
                }
            },
        )
        self.authenticator = made["authenticatorId"]

    def _listen(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.faults.append(message.text)

    def devtools(self, command: str, **arguments: Any) -> Any:
        return self._devtools.send(f"WebAuthn.{command}", {"authenticatorId": self.authenticator, **arguments})

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def tab_to(self, name: str, role: str = "") -> None:
        """Press Tab until something with this text or label has the focus."""
        for _ in range(200):
            self.press("Tab")
            focused = self.page.evaluate(_FOCUSED)
            if name in focused[1:] and (not role or focused[0].lower() == role):
                return
        raise AssertionError(f"{name!r} is not reached by Tab on {self.page.url}")

    def enrol(self, user: str) -> Person:
        """Take up an invitation, and be signed in by it."""
        self.page.goto(self.house.invite(f"user_{user}"))
        self.page.get_by_role("button", name="Make a passkey").click()
        self.page.wait_for_url(f"{self.house.url}/console")
        return self

    def close(self) -> None:
        self.context.close()
