"""What is published of the guard: right, for everyone, and no number that points at a person."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from administration import call
from court import Court
from rulings import DEVELOPS, MAKES, judge, situation
from starlette.applications import Starlette

from lathe.gateway.guarding.reporting import grouped, report_route
from lathe.guard.findings import Finding
from lathe.store.gateway.database import Database

HOUR_MS = 3_600_000


@pytest.mark.parametrize(
    ("counts", "shown"),
    [
        ({}, {}),
        ({"a": 9, "b": 0}, {"a": 9}),
        ({"a": 9, "b": 8, "c": 2}, {"a": 9, "others": 10}),  # two alone would be the difference
        ({"a": 9, "b": 3, "c": 2}, {"a": 9, "others": 5}),
        ({"a": 9, "b": 8, "c": 1, "d": 1, "e": 1}, {"a": 9, "others": 11}),
        ({"a": 3}, {"others": 3}),
    ],
)
def test_small_rows_are_put_together(counts: dict[str, int], shown: dict[str, int]) -> None:
    assert grouped(counts) == shown


async def test_the_report_counts_for_everyone_and_hides_what_is_small(database: Database, tmp_path: Path) -> None:
    court = await Court.open(database, tmp_path)
    member = court.principal("member_a")
    for number in range(30):  # ordinary requests, which are on record as served
        learns = Finding("reasoner", "malware.analyse", 0.6)
        await judge(court.services, member, situation(learns), text=f"ordinary work {number}")
    made = [await court.refuse("member_a", DEVELOPS, text=f"{number}") for number in range(7)]
    made += [await court.refuse("member_b", MAKES, text=f"{number}") for number in range(2)]
    appeals = [(await court.appeal("member_a", one))["id"] for one in made[:7]]
    appeals += [(await court.appeal("member_b", one))["id"] for one in made[7:]]
    court.clock.ahead_ms += 10 * HOUR_MS
    for number, appeal in enumerate(appeals[:8]):
        body = {"verdict": "reverse", "fault": "policy"} if number in (0, 1) else {"verdict": "uphold"}
        assert (await court.decide("reviewer", appeal, **body)).status == 200
    app = Starlette(routes=[report_route(court.services)])
    found = (await call(app, "GET", "/guard/report")).json
    told = found["appeals"]
    assert (told["opened"], told["decided"], told["in_time"]) == (None, 8, 8), "9 would tell that one waits"
    assert told["waiting"] == "fewer than 5" and told["overdue"] == 0 and told["withdrawn"] == 0
    assert told["overturned"]["rate"] == 0.25 and 0 < told["overturned"]["low"] < 0.25 < told["overturned"]["high"] < 1
    assert told["median_hours"] == 10.0 and list(told["by_clause"]) == ["others"]
    decisions = found["decisions"]
    assert (decisions["requests"], decisions["blocked"]) == (39, 9)
    assert decisions["share_blocked"]["rate"] == pytest.approx(9 / 39, abs=1e-4)
    assert sum(number for number in decisions["by_clause"].values()) == 39
    assert decisions["by_step"] and "malware.create" not in decisions["by_clause"]
    # nothing in it names anybody or anything
    text = json.dumps(found)
    assert not re.search(r"(user|key|org|proj|dec|apl|req)_", text)
    page = await call(app, "GET", "/guard/report", headers={"accept": "text/html,application/xhtml+xml"})
    assert page.headers["content-type"].startswith("text/html") and "default-src 'none'" in str(page.headers)
    shown = page.body.decode()
    assert "25.0 %" in shown and "fewer than 5" in shown and "10.0 h" in shown
    assert not re.search(r"(user|key|org|proj|dec|apl|req)_", shown)
