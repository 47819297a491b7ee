"""A batch on two replicas, one of which ends in the middle of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import openai
import pytest
from gateways import running
from serving import Served
from sqlalchemy import select, text, update
from test_batches import ended, line, make, results, settings

from lathe.models.script import Step, Words
from lathe.models.scripted import RecordedRequest, ScriptedServer
from lathe.store.gateway.schema import batch_lines, replicas, requests

LINES = 60
CONCURRENT = 3


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_the_lines_of_a_replica_that_ends_are_taken_up(
    tmp_path: Path, database_url: str, how: signal.Signals
) -> None:
    over = asyncio.Event()

    def answer(request: RecordedRequest) -> Step:
        return Step(say=(Words("Hello there."),), delay_s=0.01 if over.is_set() else 0.3)

    async with (
        ScriptedServer(answer) as server,
        contextlib.AsyncExitStack() as stack,
        running(settings(server, concurrent=CONCURRENT, database=database_url), tmp_path / "a") as gateway,
        openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0) as client,
    ):
        database = gateway.gateway.services.database
        (tmp_path / "b").mkdir()
        config = (
            f'mend = false\n[upstreams.up]\nbase_url = "{server.base_url}"\nwires = ["chat"]\n'
            f'concurrent = {CONCURRENT}\n[models.m]\nroutes = ["up"]\nprice = {{ input = 1.0, output = 2.0 }}\n'
        )
        other = Served(tmp_path / "b", config, database=database_url, key=gateway.key)
        stack.callback(lambda: other.process and other.process.kill())
        await asyncio.to_thread(other.start)
        async with database.begin() as connection:
            (victim,) = (
                await connection.execute(select(replicas.c.id).where(replicas.c.id != gateway.gateway.services.replica))
            ).one()
        batch = await make(client, [line(f"r{n}", user=f"person-{n:03}") for n in range(LINES)])
        theirs = batch_lines.c.replica == victim
        for state in ("done", "running"):
            seen = False
            while not seen:
                async with database.begin() as connection:
                    query = select(batch_lines.c.number).where(theirs, batch_lines.c.state == state)
                    seen = (await connection.execute(query)).first() is not None
                await asyncio.sleep(0.01)
        await asyncio.to_thread(other.stop, how)
        over.set()
        if how == signal.SIGKILL:  # its silence is noticed after 15 s, which this makes over
            async with database.begin() as connection:
                await connection.execute(
                    update(replicas).where(replicas.c.id == victim).values(seen=replicas.c.seen - 15_000)
                )
        batch = await ended(client, batch.id)
        assert batch.request_counts.model_dump() == {"total": LINES, "completed": LINES, "failed": 0}
        answers = await results(client, batch.output_file_id)
        assert list(answers) == [f"r{n}" for n in range(LINES)]

        # what each line was answered with is on record once, and who was asked twice is told
        rows: Sequence[Any] = []
        while not rows or any(row.state == "open" for row in rows):  # every replica marks what is lost, by and by
            async with database.begin() as connection:
                rows = (await connection.execute(select(requests.c.id, requests.c.state, requests.c.replica))).all()
            await asyncio.sleep(0.01)
        async with database.begin() as connection:
            charged = (await connection.execute(text("select max(requests) from spend"))).scalar_one()
        states = Counter(row.state for row in rows)
        asked = {answer["response"]["request_id"] for answer in answers.values()}
        assert asked == {row.id for row in rows if row.state == "done"}
        assert len(asked) == LINES
        if how == signal.SIGTERM:
            assert set(states) <= {"done", "cancelled"}
        else:
            assert set(states) <= {"done", "lost"}
            assert charged == LINES
        assert sum(states.values()) - LINES <= CONCURRENT + 1
        sent = Counter(json.loads(request.body)["user"] for request in server.requests)
        again = {f"r{int(user[-3:])}" for user, count in sent.items() if count > 1}
        assert again <= {name for name, answer in answers.items() if answer.get("lathe")}
        assert max(sent.values()) <= 2
        assert {row.replica for row in rows} == {victim, gateway.gateway.services.replica}
