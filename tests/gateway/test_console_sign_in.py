"""Signing in to the console in a real browser: passkeys, a real OpenID provider, forms that others have made."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from browsing import House, Person
from playwright.sync_api import Browser, expect
from providers import real_provider
from sqlalchemy import select, update

from lathe.gateway.identity.sessions import IDLE_MS, LIFETIME_MS
from lathe.gateway.identity.settings import OidcTable
from lathe.store.gateway import schema


@pytest.fixture
def person(browser: Browser, house: House) -> Iterator[Person]:
    person = Person(browser, house)
    yield person
    person.close()


def rows(house: House, query: Any) -> list[Any]:
    async def read() -> list[Any]:
        async with house.services.database.begin() as connection:
            return list((await connection.execute(query)).all())

    return house.run(read())


def change(house: House, statement: Any) -> None:
    async def write() -> None:
        async with house.services.database.begin() as connection:
            await connection.execute(statement)
            await house.services.database.changed(connection)

    house.run(write())


def test_a_passkey_is_enrolled_by_invitation_and_signs_in_by_keyboard(house: House, person: Person) -> None:
    page = person.page
    link = house.invite("user_mary")
    page.goto(link)
    person.tab_to("Name of the passkey")
    page.keyboard.type("Key of Mary")
    person.tab_to("Make a passkey")
    person.press("Enter")
    page.wait_for_url(f"{house.url}/console")
    person.tab_to("Sign out")
    person.press("Enter")
    expect(page.get_by_role("status")).to_have_text("You are signed out.")
    page.goto("/console/account")
    assert page.url == f"{house.url}/console/sign-in?to=%2Fconsole%2Faccount"
    expect(page.get_by_role("button", name="Sign in with a passkey")).to_be_focused()
    person.press("Enter")
    page.wait_for_url(f"{house.url}/console/account")
    expect(page.get_by_label("Name", exact=True)).to_have_value("Key of Mary")
    page.goto("/console/invitation")
    page.goto(link)
    page.get_by_role("button", name="Make a passkey").click()
    expect(page.get_by_role("alert")).to_contain_text("has been used or is too old")
    assert [fault for fault in person.faults if "403" not in fault and "404" not in fault] == []
    actions = [row.body for row in rows(house, select(schema.audit.c.body))]
    assert sum('"session.opened"' in body for body in actions) == 2
    assert sum('"passkey.enrolled"' in body for body in actions) == 1


def test_a_passkey_that_is_copied_or_not_verified_is_refused(house: House, person: Person) -> None:
    page = person.enrol("mary").page
    page.get_by_role("button", name="Sign out").click()
    change(house, update(schema.passkeys).values(sign_count=1_000))
    page.get_by_role("button", name="Sign in with a passkey").click()
    expect(page.get_by_role("alert")).to_contain_text("may have been copied")
    assert any('"passkey.copied"' in row.body for row in rows(house, select(schema.audit.c.body)))
    change(house, update(schema.passkeys).values(sign_count=0))
    person.devtools("setUserVerified", isUserVerified=False)
    page.get_by_role("button", name="Sign in with a passkey").click()
    expect(page.get_by_role("alert")).to_contain_text("No passkey was chosen")
    person.devtools("setUserVerified", isUserVerified=True)
    change(house, update(schema.users).where(schema.users.c.id == "user_mary").values(active=False))
    page.get_by_role("button", name="Sign in with a passkey").click()
    expect(page.get_by_role("alert")).to_contain_text("has been closed")


def test_passkeys_are_added_named_and_removed_but_not_the_last_one(house: House, person: Person) -> None:
    page = person.enrol("mary").page
    page.goto("/console/account")
    page.get_by_role("button", name="Remove").click()
    expect(page.get_by_role("heading")).to_contain_text("only way you can sign in")
    first = person.devtools("getCredentials")["credentials"][0]["credentialId"]
    person.devtools("removeCredential", credentialId=first)
    page.goto("/console/account")
    page.get_by_label("Name of a new passkey").fill("<b>Second</b>")
    page.get_by_role("button", name="Add a passkey").click()
    expect(page.get_by_role("status")).to_have_text("The passkey is added.")
    expect(page.get_by_label("Name", exact=True).nth(1)).to_have_value("<b>Second</b>")
    page.get_by_role("button", name="Remove").nth(0).click()
    expect(page.get_by_role("status")).to_contain_text("The passkey is removed")
    expect(page.get_by_role("button", name="Remove")).to_have_count(1)
    assert [fault for fault in person.faults if "409" not in fault] == []


def test_a_person_signs_in_by_a_real_provider(browser: Browser, tmp_path: Path) -> None:
    house = House(tmp_path)
    back = f"{house.url}/console/sign-in/oidc/corp/back"
    with real_provider(back) as issuer:
        house.close()
        table = OidcTable(issuer=issuer, client_id="lathe-public", title="Corp & Co", domains={"new.example": "Acme"})
        house = House(tmp_path / "second", port=house.port, oidc={"corp": table})
        person = Person(browser, house)
        page = person.page
        page.goto("/console/account")
        page.get_by_role("link", name="Sign in with Corp & Co").click()
        page.get_by_label("Address").fill("newcomer@new.example")
        page.get_by_label("Methods").fill("pwd otp")
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(f"{house.url}/console/account")
        expect(page.get_by_text("by oidc (mfa)")).to_be_visible()
        [row] = rows(house, select(schema.users).where(schema.users.c.email == "newcomer@new.example"))
        assert (row.organisation, row.identity["level"]) == ("org_acme", "mfa")
        page.get_by_role("button", name="Sign out", exact=True).click()
        person.context.clear_cookies()
        page.get_by_role("link", name="Sign in with Corp & Co").click()
        page.get_by_label("Address").fill("stranger@else.example")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("heading")).to_contain_text("Nobody has invited stranger@else.example")
        assert [fault for fault in person.faults if "403" not in fault and "404" not in fault] == []
        person.close()
        house.close()


def test_a_session_ends_by_time_and_is_never_one_that_was_planted(house: House, person: Person) -> None:
    person.context.add_cookies([{"name": "lathe", "value": "planted", "url": house.url}])
    page = person.enrol("mary").page
    [cookie] = person.context.cookies()
    assert cookie["value"] != "planted"
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Lax")
    assert not rows(house, select(schema.sessions).where(schema.sessions.c.digest == cookie["value"]))
    for ahead in (IDLE_MS, LIFETIME_MS):
        page.goto("/console/account")
        expect(page.get_by_role("heading", name="Your account")).to_be_visible()
        if ahead == LIFETIME_MS:  # somebody who is never idle
            change(house, update(schema.sessions).values(seen=house.clock() + ahead))
        house.clock.ahead_ms += ahead + 1_000
        page.goto("/console/account")
        assert "/sign-in" in page.url
        house.clock.ahead_ms = 0


def test_forms_that_others_made_are_refused(house: House, person: Person) -> None:
    page = person.enrol("mary").page
    page.goto("/console/account")
    token = page.locator("input[name=csrf]").first.get_attribute("value")
    [cookie] = person.context.cookies()
    with httpx2.Client(base_url=house.url, cookies={"lathe": cookie["value"]}) as stranger:
        for headers, data, status in (
            ({}, {}, 403),
            ({}, {"csrf": "guessed"}, 403),
            ({"origin": "https://evil.example"}, {"csrf": token}, 403),
            ({"origin": "null"}, {"csrf": token}, 403),
            ({"sec-fetch-site": "cross-site"}, {"csrf": token}, 403),
            ({"sec-fetch-site": "same-site"}, {"csrf": token}, 403),
            ({"host": "evil.example"}, {"csrf": token}, 421),
            ({"content-type": "text/plain"}, {"csrf": token}, 415),
            ({"origin": house.url, "sec-fetch-site": "same-origin"}, {"csrf": token}, 303),
            ({"origin": house.url}, {"csrf": token}, 401),  # the session is over
        ):
            answer = stranger.post("/console/sign-out", headers=headers, data=data)
            assert answer.status_code == status, (headers, answer.text)


def test_every_answer_says_what_a_browser_may_do_with_it(house: House) -> None:
    with httpx2.Client(base_url=house.url) as visitor:
        for path in ("/console/sign-in", "/console", "/console/nothing"):
            answer = visitor.get(path)
            policy = answer.headers["content-security-policy"]
            assert "unsafe" not in policy and "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "same-origin"
        for file in ("console.css", "passkey.js", "icon.svg"):
            answer = visitor.get(f"/console/static/{file}")
            assert answer.status_code == 200 and answer.headers["x-content-type-options"] == "nosniff"
        assert visitor.get("/console/static/../gate.py").status_code == 404
        large = visitor.post(
            "/console/sign-in/passkey", content=b"1" * 70_000, headers={"content-type": "application/json"}
        )
        assert large.status_code == 413
        page = visitor.get("/console/sign-in").text
        assert not re.search(r"<script(?![^>]*\ssrc=)|\sstyle=|\son\w+=", page)
        numbers = visitor.get(f"http://127.0.0.1:{house.port}/console/sign-in")
        assert numbers.headers["location"] == f"{house.url}/console/sign-in"
        for to in ("//evil.example", "https://evil.example", "/console@evil.example", "/console/\\evil", "/other"):
            assert 'data-to="/console"' in visitor.get("/console/sign-in", params={"to": to}).text
