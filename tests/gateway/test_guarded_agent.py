"""Lathe's own agent through a gateway whose guard refuses: the thread goes on, and the person is told all of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_guarding import MARK, SAID, WIRES, error_of, guarded, sent
from test_guarding import Thread as Conversation

from lathe.agent.thread import Thread
from lathe.agent.workshop import Workshop
from lathe.cli.engine import open_engine
from lathe.config.settings import Settings
from lathe.guard.quarantine import identity
from lathe.models.script import Call, Step
from lathe.models.scripted import RecordedRequest, ScriptedServer
from lathe.protocol.errors import ContentRefused
from lathe.protocol.events import CallRejected, GuardDecided, ModelServed
from lathe.protocol.items import user_message
from lathe.store.threads import fork_thread, journal_path, spill_dir


@pytest.mark.parametrize("wire", WIRES)
async def test_a_thread_of_lathes_lives_on(wire: str, tmp_path: Path, own_home: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "app.log").write_text(f"one\n{MARK}\n")
    calls = {"Search": "cat app.log", "Write": f"echo {MARK} > made"}

    def answer(request: RecordedRequest) -> Step:
        text = request.body.decode()
        for word, command in calls.items():
            if f"{word} it." in text and f"called {word}" not in seen:
                seen.append(f"called {word}")
                return Step(say=(Call("exec_command", f'{{"cmd":"{command}"}}'),))
        return SAID

    seen: list[str] = []
    async with ScriptedServer(answer) as server, guarded(server, tmp_path, wire) as gateway:
        table = {"gate": {"base_url": f"{gateway.url}/v1", "wire": wire, "key_env": "GATE_KEY"}}
        settings = Settings(model="m", provider="gate", approve="never", providers=table)
        environ = {"GATE_KEY": gateway.key, "HOME": str(own_home), "PATH": "/usr/bin:/bin"}
        home, cwd = own_home / "lathe", tmp_path / "work"

        async def turn(thread: Thread, words: str) -> list[object]:
            spill = spill_dir(home, thread.id)
            workshop = Workshop(
                settings, open_engine(settings, environ), home=home, cwd=cwd, spill=spill, environ=environ
            )
            try:
                surface = await workshop.open(thread.items)
                return [event async for event in thread.run(user_message(words), surface)]
            finally:
                await workshop.aclose()

        thread = Thread.start(home, cwd)
        events = await turn(thread, "Hello.")
        assert thread.failure is None and not any(isinstance(one, ModelServed) for one in events)
        # what the person says
        events = await turn(thread, f"Now do the {MARK}.")
        assert isinstance(thread.failure, ContentRefused)
        told = next(one for one in events if isinstance(one, GuardDecided))
        assert (told.clause, told.step) == ("malware.create", "refuse") and told.decision.startswith("dec_")
        assert "Why: reasoner: It is marked." in told.message and f"access appeal {told.decision}" in told.message
        await turn(thread, "Thanks, then only add a test.")
        assert thread.failure is None
        # what a tool gave is nobody's act, and is served
        await turn(thread, "Search it.")
        assert thread.failure is None and thread.last_message == "Well said."
        # a call that the model makes, which the gateway withholds
        events = await turn(thread, "Write it.")
        assert isinstance(thread.failure, ContentRefused) and not (cwd / "made").exists()
        assert all(one.reason == "forbidden" for one in events if isinstance(one, CallRejected))
        told = next(one for one in events if isinstance(one, GuardDecided))
        assert told.clause == "malware.create" and f"access appeal {told.decision}" in told.message
        assert told.set_aside and "your message" not in told.set_aside
        await turn(thread, "Go on with something else.")
        assert thread.failure is None
        thread.close()
        for path in (thread.id, fork_thread(home, journal_path(home, thread.id))):
            again = Thread.resume(journal_path(home, path))
            await turn(again, "And here?")
            assert again.failure is None
            again.close()
        # the gateway names what it refuses by what it says, and so the agent knows it
        words = f"Do the {MARK}."
        refused = await Conversation(wire, gateway).ask(words)
        assert error_of(wire, refused)["items"] == [identity(user_message(words))]
        assert f"do the {MARK}" not in sent(server) and f"echo {MARK}" not in sent(server)
