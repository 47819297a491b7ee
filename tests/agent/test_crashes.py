"""`lathe exec` killed at random moments, and resumed, again and again."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from running import KEY, environment, lathe, patch, run, says, start

from lathe.models.script import Call, Step, Words
from lathe.models.scripted import RecordedRequest, ScriptedServer
from lathe.protocol.codec import encode
from lathe.store.journal import EventRecord, records, replay

WIRES = ("responses", "chat", "messages")
ADDED = "".join(f"line {number}\n" for number in range(2000))
CHANGED = ADDED.replace("line 0\n", "line zero\n").replace("line 1999\n", "line last\n")


def pieces(request: RecordedRequest) -> Iterator[tuple[str, str]]:
    """The calls and outputs of a request, in order, whatever its wire."""
    body = request.json()
    for item in body["input"] if request.wire == "responses" else body["messages"]:
        if item.get("type", "").endswith("_call"):
            yield "call", item["call_id"]
        elif item.get("type", "").endswith("_output"):
            yield "output", item["call_id"]
        elif item.get("role") == "tool":
            yield "output", item["tool_call_id"]
        for call in item.get("tool_calls", ()):
            yield "call", call["id"]
        if request.wire == "messages" and isinstance(item["content"], list):
            for block in item["content"]:
                if block["type"] == "tool_use":
                    yield "call", block["id"]
                elif block["type"] == "tool_result":
                    yield "output", block["tool_use_id"]


class Model:
    """Does a round of work, then says so; counts what is wrong with how calls and outputs are paired."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.wrong: list[str] = []

    def answer(self, request: RecordedRequest) -> Step:
        self.check(request)
        both = tuple(
            Call("exec_command", json.dumps({"cmd": f": {self.token}; {c}"})) for c in ("echo a", "sleep 0.05")
        )
        plan = Call("update_plan", json.dumps({"plan": [{"step": "One", "status": "in_progress"}]}))
        body = "".join(f"+{line}\n" for line in ADDED.splitlines())
        change = "@@\n-line 0\n+line zero\n line 1\n@@\n line 1998\n-line 1999\n+line last"
        work = [
            run(f": {self.token}; seq 1 3000"),
            Step(say=(Words("Some at once."), plan, *both, Call("exec_command", "{no json"))),
            patch(f"*** Begin Patch\n*** Add File: big.txt\n{body}*** End Patch"),
            run(f": {self.token}; setsid bash -c ': {self.token}; sleep 300; :' & sleep 0.05"),
            patch(f"*** Begin Patch\n*** Update File: big.txt\n{change}\n*** End Patch"),
            run(f": {self.token}; rm -f big.txt"),
        ]
        calls = sum(kind == "call" for kind, _ in pieces(request))
        return says("A round is done.") if calls % 10 == 9 else work[calls % len(work)]

    def check(self, request: RecordedRequest) -> None:
        open_calls: set[str] = set()
        seen: set[str] = set()
        for kind, call_id in pieces(request):
            if kind == "call":
                self.note(call_id not in seen, f"{call_id} was called twice")
                seen.add(call_id)
                open_calls.add(call_id)
            else:
                self.note(call_id in open_calls, f"{call_id} was answered twice, or not called")
                open_calls.discard(call_id)
        self.note(not open_calls, f"{open_calls} have no output")

    def note(self, right: bool, sentence: str) -> None:
        if not right:
            self.wrong.append(sentence)


def options(base_url: str, wire: str) -> list[str]:
    settings = (f"base_url={base_url}", f"wire={wire}", "key_env=OPENAI_API_KEY")
    flags = [flag for text in settings for flag in ("-c", f"providers.local.{text}")]
    return ["--json", "--provider", "local", "-m", "m", *flags]


async def killed(process: asyncio.subprocess.Process, after: int, pause: float) -> bytes:
    """Kill a run some time after its event number `after`; return all that it has shown."""
    assert process.stdout
    shown = b""
    for _ in range(after):
        line = await process.stdout.readline()
        shown += line
        if not line:
            break
    await asyncio.sleep(pause)
    if process.returncode is None:
        process.kill()
    rest, _ = await process.communicate()
    return shown + rest


def running(token: str) -> list[str]:
    """The processes whose command line holds `token`."""
    found = []
    for entry in os.listdir("/proc"):
        try:
            if entry.isdigit() and token.encode() in Path("/proc", entry, "cmdline").read_bytes():
                found.append(entry)
        except OSError:
            continue
    return found


async def rounds(work: Path, kills: int, seed: int) -> dict[str, Any]:
    chance = random.Random(seed)
    token = f"marked-{os.getpid()}-{seed}"
    model = Model(token)
    env = environment(OPENAI_API_KEY=KEY)
    journals = Path(env["LATHE_HOME"]) / "threads"
    lost = []
    async with ScriptedServer(model.answer) as server:
        for number in range(kills):
            first = not journals.exists() or not list(journals.glob("*.jsonl"))
            command = ["exec", "go"] if first else ["resume", "--last", "go"]
            wire = chance.choice(WIRES)
            process = await start(*command, *options(server.base_url, wire), cwd=work, env=env)
            shown = await killed(process, chance.randrange(24), chance.random() * chance.choice((0.005, 0.1)))
            while running(token):
                await asyncio.sleep(0.02)
            if not journals.exists():
                continue
            (journal,) = journals.glob("*.jsonl")
            kept = {encode(record.event) for record in records(journal) if isinstance(record, EventRecord)}
            whole = [line for line in shown.split(b"\n")[:-1] if b'"item.updated"' not in line]
            lost += [(number, line) for line in whole if line not in kept]
            big = work / "big.txt"
            if big.exists() and big.read_text() not in (ADDED, CHANGED):
                lost.append((number, b"half a patch"))
        for wire in WIRES:
            ran = await lathe("resume", "--last", "go", *options(server.base_url, wire), cwd=work, env=env)
            assert ran.code == 0, ran.err
        assert replay(journal).damaged == 0
        return {"lost": lost, "wrong": model.wrong, "left": running(token), "requests": len(server.requests)}


@pytest.mark.timeout(120)
async def test_a_run_that_is_killed_again_and_again_loses_nothing_it_has_shown(tmp_path: Path) -> None:
    kills = int(os.environ.get("KILLS", "15"))
    result = await rounds(tmp_path, kills, seed=int(os.environ.get("SEED", "7")))
    assert result["lost"] == []
    assert result["wrong"] == []
    assert result["left"] == []
    assert result["requests"] > kills
