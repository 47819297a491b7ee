"""Decisions in the console, in a real browser: one click appeals, a reviewer decides by keyboard, a measure ends."""

from __future__ import annotations

import json
import re

from browsing import House, Person
from installation import furnish
from playwright.sync_api import Browser, expect
from sqlalchemy import select

from lathe.store.gateway import guard_schema


def test_one_click_appeals_and_a_reviewer_reverses_by_keyboard(house: House, browser: Browser) -> None:
    ids = house.run(furnish(house.services))
    mary, rita = Person(browser, house).enrol("mary"), Person(browser, house).enrol("rita")
    page = mary.page
    page.get_by_role("link", name="A notice is new.").click()
    expect(page.get_by_text("It is ready to run, and aimed at others.")).to_be_visible()
    mary.tab_to("Mark as read", "button")
    mary.press("Enter")
    expect(page.get_by_role("button", name="Mark as read")).to_have_count(0)
    page.get_by_role("button", name="Appeal against").first.click()
    expect(page.get_by_role("status")).to_contain_text("A person who had no part in the decision")
    page.get_by_role("button", name="Withdraw the appeal").click()
    expect(page.get_by_role("status")).to_have_text("The appeal is withdrawn.")

    page = rita.page
    page.goto("/console")
    page.get_by_text("Appeals waiting").locator("..").get_by_role("link", name="1").click()
    expect(page.get_by_role("row")).to_have_count(2)
    rita.tab_to(ids["appeal"], "a")
    rita.press("Enter")
    page.wait_for_url(f"**/{ids['appeal']}")
    expect(page.get_by_text("The shop is ours: we test it before each release.")).to_be_visible()
    page.get_by_role("button", name="Take it in hand").click()
    expect(page.get_by_role("status")).to_have_text("The appeal is in your hands.")
    rita.tab_to("Reason the person reads it")
    page.keyboard.type("Their register shows that the shop is theirs.")
    rita.tab_to("Reverse it and put everything right", "button")
    rita.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("says whether policy, monitor or facts were wrong")
    expect(page.get_by_label("Reason")).to_have_value("Their register shows that the shop is theirs.")
    page.get_by_label("What was wrong").select_option("facts")
    page.get_by_text("The facts as they were in truth").click()
    page.get_by_label("shop.example is").select_option("own")
    page.get_by_role("button", name="Reverse it").click()
    expect(page.get_by_role("status")).to_contain_text("what it did is put right")
    expect(page.get_by_text("written", exact=True)).to_be_visible()

    async def case() -> str:
        async with house.services.database.begin() as connection:
            table = guard_schema.appeals
            return (await connection.execute(select(table.c.case).where(table.c.id == ids["appeal"]))).scalar_one()

    kept = json.loads(house.run(case()))
    assert kept["situation"]["targets"] == [{"name": "shop.example", "relation": "own"}]
    page = mary.page
    page.goto("/console/decisions")
    expect(page.get_by_text("Their register shows that the shop is theirs.").first).to_be_visible()
    page.goto(f"/console/decisions/{ids['decision']}")
    expect(page.get_by_text("reversed").first).to_be_visible()
    expect(page.get_by_role("button", name="Appeal")).to_have_count(0)
    # refused fills of a form leave a line in the browser's own console, and nothing else does
    assert [fault for fault in (*mary.faults, *rita.faults) if "400" not in fault] == []
    mary.close()
    rita.close()


def test_a_measure_takes_a_second_person_and_tells_the_one_it_is_about(house: House, browser: Browser) -> None:
    ids = house.run(furnish(house.services))
    rita = Person(browser, house).enrol("rita")
    rita.page.goto(f"/console/accounts/{ids['proposal']}")
    expect(rita.page.get_by_text("You have reviewed it already.")).to_be_visible()
    expect(rita.page.get_by_role("button", name="Approve")).to_have_count(0)
    rolf, mary = Person(browser, house).enrol("rolf"), Person(browser, house).enrol("mary")
    page = rolf.page
    page.goto("/console/accounts")
    page.get_by_role("link", name=re.compile("^pro_")).click()
    expect(page.get_by_text("where restricted begins at 20").first).to_be_visible()
    page.get_by_label("Reason").fill("Each of the decisions is right.")
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_text("in force")).to_be_visible()
    page = mary.page
    page.goto("/console/decisions")
    expect(page.get_by_role("heading", name="Your account is restricted")).to_be_visible()
    page.get_by_role("link", name="The decision").first.click()
    expect(page.get_by_text("Rita, Rolf")).to_be_visible()
    expect(page.get_by_role("row")).to_have_count(6)
    page.get_by_label("Why it was wrong").fill("All of it was a test.")
    page.get_by_role("button", name="Appeal").click()
    expect(page.get_by_role("status")).to_contain_text("The appeal is made.")
    rolf.page.goto(page.url)
    expect(rolf.page.get_by_text("had a part in the decision")).to_be_visible()
    rolf.page.goto(f"/console/accounts/{ids['proposal']}")
    rolf.page.get_by_text("Propose that it be lifted").click()
    rolf.page.get_by_label("Reason").fill("The person has shown what it was.")
    rolf.page.get_by_role("button", name="Propose").click()
    expect(rolf.page.get_by_role("status")).to_contain_text("Another person has to approve it.")
    for person in (mary, rita, rolf):
        assert person.faults == []
        person.close()
