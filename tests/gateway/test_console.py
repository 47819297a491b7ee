"""The console: every route by role and tenant, and the work of a reviewer in a real browser, by keyboard."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx2
from browsing import House, Person
from installation import PEOPLE, Clock, furnish, open_services, populate
from playwright.sync_api import Browser, expect
from sqlalchemy import select, update
from starlette.applications import Starlette

from lathe.gateway.console import routes as console
from lathe.gateway.identity.entrance import open_entrance
from lathe.gateway.identity.sessions import open_session
from lathe.gateway.principals import key_digest
from lathe.store.gateway import guard_schema, schema
from lathe.store.gateway.database import Database

HOST = "http://localhost:8484"
XSS = "<img src=x onerror=alert(1)>\"'{{7*7}}"


def path_of(page: console.Page, ids: dict[str, str]) -> str:
    named = ids | {"version": ids["rollout"], "provider": "corp"}
    return re.sub(r"\{(\w+)\}", lambda found: named[found[1]], f"/console{page.path}")


async def test_every_page_is_there_on_both_databases(database: Database, tmp_path: Path) -> None:
    await populate(database)
    services = await open_services(database, tmp_path, Clock())
    ids = await furnish(services)
    app = Starlette(routes=console.routes(open_entrance(services)))
    async with database.begin() as connection:
        cookie = await open_session(connection, "user_olga", "passkey", "passkey", services.clock())
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url=HOST, cookies={"lathe": cookie}) as browser:
        for page in console.PAGES:
            if page.method == "GET" and page.roles is not None and "{provider}" not in page.path:
                await services.directory.refresh()
                answer = await browser.get(path_of(page, ids), params={"model": "mend"})
                assert answer.status_code == 200, (page.path, answer.text)


async def test_every_route_by_role_and_tenant(sqlite: Database, tmp_path: Path) -> None:
    await populate(sqlite)
    services = await open_services(sqlite, tmp_path, Clock())
    ids = await furnish(services)
    app = Starlette(routes=console.routes(open_entrance(services)))
    cookies: dict[str, str] = {"": ""}
    async with sqlite.begin() as connection:
        for name in PEOPLE:
            cookies[name] = await open_session(connection, f"user_{name}", "passkey", "passkey", services.clock())
    wrong = []
    transport = httpx2.ASGITransport(app=app)
    for page in console.PAGES:
        path = path_of(page, ids)
        await services.directory.refresh()
        for name, cookie in cookies.items():
            roles = {"anyone", *PEOPLE[name][1]} if name else set()
            async with httpx2.AsyncClient(transport=transport, base_url=HOST, cookies={"lathe": cookie}) as browser:
                query = {"model": "mend"} if "/models/" in path else {}
                answer = await browser.request(page.method, path, params=query)
            status, may = answer.status_code, bool((page.roles or frozenset()) & roles)
            where = f"{name or 'nobody'}: {page.method} {path}: {status} {answer.text[:80]!r}"
            if page.roles is None:
                fits = status < 500
            elif not name:
                fits = status == (303 if page.method == "GET" else 401)
            elif not may:
                fits = status == 403 and "role" in answer.text
            elif page.method == "POST":  # nothing is done without a form's token
                fits = status == 403 and "not made by this session" in answer.text
            else:
                fits = status in (200, 303, 404)
            if not fits:
                wrong.append(where)
            if name in ("bert", "bill") and status == 200 and page.path.count("{"):
                wrong.append(f"shown to another tenant: {where}")
            if name in ("bert", "bill") and any(word in answer.text for word in ("@acme", "notebook", "Red team")):
                wrong.append(f"told another tenant: {where}")
    assert not wrong, "\n".join(wrong)


def test_a_reviewer_works_by_keyboard_alone(house: House, browser: Browser) -> None:
    ids = house.run(furnish(house.services))
    rita = Person(browser, house).enrol("rita")
    page = rita.page
    rita.press("Tab")
    expect(page.locator(":focus")).to_have_text("Skip to the content")
    rita.tab_to("Applications", "a")
    rita.press("Enter")
    page.wait_for_url(f"{house.url}/console/applications")
    rita.tab_to("Anna", "a")
    rita.press("Enter")
    page.wait_for_url(f"**/{ids['application']}")
    expect(page.get_by_text("Passport of the Netherlands")).to_be_visible()
    rita.tab_to("Note the applicant reads it; a decline needs one")
    page.keyboard.type("Seen the contract.")
    rita.tab_to("Approve", "button")
    rita.press("Enter")
    expect(page.get_by_role("status")).to_have_text("You have approved it.")
    expect(page.get_by_text("You have reviewed it already.")).to_be_visible()
    expect(page.get_by_role("button", name="Approve")).to_have_count(0)
    page.goto(f"/console/entitlements/{ids['entitlement']}")
    expect(page.get_by_text("The signature is genuine.")).to_be_visible()
    rita.tab_to("Why the holder reads it")
    page.keyboard.type("The contract has ended.")
    rita.tab_to("Revoke at once", "button")
    rita.press("Enter")
    expect(page.get_by_role("status")).to_have_text("It is revoked, on every replica.")
    expect(page.get_by_text("The contract has ended.")).to_be_visible()
    assert rita.faults == []
    rolf = Person(browser, house).enrol("rolf")
    rolf.page.goto(f"/console/applications/{ids['application']}")
    rolf.page.get_by_role("button", name="Approve").click()
    expect(rolf.page.get_by_role("link", name=re.compile("^ent_"))).to_be_visible()
    rolf.page.goto(f"/console/rollouts/{ids['rollout']}")
    rolf.page.get_by_role("button", name="Rehearse").click()
    expect(rolf.page.get_by_role("status")).to_contain_text("requests would have been answered otherwise")
    rolf.page.get_by_role("button", name="Approve: in force at once").click()
    expect(rolf.page.get_by_role("status")).to_have_text("The schedule is in force.")
    assert rolf.faults == []
    for person in (rita, rolf):
        person.close()


def test_a_key_is_made_by_keyboard_shown_once_and_revoked(house: House, browser: Browser) -> None:
    mary = Person(browser, house).enrol("mary")
    page = mary.page
    page.goto("/console/keys")
    mary.tab_to("Make a key", "a")
    mary.press("Enter")
    page.wait_for_url("**/console/keys/new")
    mary.tab_to("Name")
    page.keyboard.type("Build machine")
    mary.tab_to("Budget a month US dollars")
    page.keyboard.type("12.5")
    mary.tab_to("Make the key", "button")
    mary.press("Enter")
    secret = page.get_by_label("The key").inner_text()
    principal = house.services.directory.principal(key_digest(secret))
    assert principal and principal.user == "user_mary" and principal.project == "proj_acme"
    limits = house.services.directory.key_settings(principal.key)["limits"]
    assert limits["budget"]["monthly_usd"] == 12.5
    mary.tab_to("I have copied it", "a")
    mary.press("Enter")
    page.wait_for_url("**/console/keys/key_*")
    assert secret not in page.content()
    mary.tab_to("Revoke at once", "button")
    mary.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("The key is revoked")
    assert house.services.directory.principal(key_digest(secret)) is None
    assert mary.faults == []
    mary.close()


def test_what_people_write_is_shown_as_text(house: House, browser: Browser) -> None:
    ids = house.run(furnish(house.services))

    async def rename() -> None:
        async with house.services.database.begin() as connection:
            for table in (schema.users, schema.organisations, schema.projects, schema.keys, schema.groups):
                if table is not schema.organisations and table is not schema.projects:
                    await connection.execute(update(table).values(name=XSS))
                else:
                    await connection.execute(update(table).values(name=table.c.id + XSS))
            await connection.execute(
                update(schema.applications).values(why=XSS, evidence=[{"kind": "statement", "text": XSS}])
            )
            await connection.execute(update(schema.entitlements).values(revoked=1, revoked_why=XSS))
            await connection.execute(update(schema.rollouts).values(why=XSS))
            await connection.execute(update(schema.reviews).values(note=XSS))
            await connection.execute(update(schema.engagements).values(name=XSS))
            await connection.execute(update(schema.requests).values(requested=XSS, code=XSS))
            await connection.execute(update(schema.proofs).values(evidence={XSS: XSS}))
            for table, column in ((guard_schema.appeals, "text"), (guard_schema.proposals, "why")):
                for row in list(await connection.execute(select(table))):
                    body = json.dumps({**json.loads(row.body), column: XSS, "reason": XSS} if column == "text" else
                                      {**json.loads(row.body), column: XSS})  # fmt: skip
                    await connection.execute(update(table).where(table.c.id == row.id).values(body=body))
            told = json.dumps({"title": XSS, "text": XSS, "about": {}})
            await connection.execute(update(guard_schema.notices).values(body=told))
            await connection.execute(update(guard_schema.decisions).values(clause=XSS, step=XSS[:20]))
            await house.services.database.changed(connection)

    house.run(rename())
    olga = Person(browser, house).enrol("olga")
    page = olga.page
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    shown = 0
    for one in console.PAGES:
        if one.method == "GET" and "oidc" not in one.path and "link" not in one.path:
            path = path_of(one, ids)
            page.goto(f"{path}?model=mend&email=" + "%3Cimg%20src%3Dx%20onerror%3Dalert(2)%3E")
            assert page.locator("img").count() == 0, path
            shown += "onerror=alert(1)" in page.inner_text("body")
    assert shown >= 25 and not dialogs
    assert [fault for fault in olga.faults if "404" not in fault and "403" not in fault] == []
    olga.close()


def test_the_console_works_without_scripts(house: House, browser: Browser) -> None:
    ids = house.run(furnish(house.services))
    anna = Person(browser, house).enrol("anna")
    cookies = anna.context.cookies()
    anna.close()
    still = browser.new_context(base_url=house.url, java_script_enabled=False)
    still.add_cookies([{"name": "lathe", "value": cookies[0]["value"], "url": house.url}])
    page = still.new_page()
    page.goto("/console/people/new")
    page.get_by_label("E-mail address").fill("nina@acme.example")
    page.get_by_role("button", name="Add").click()
    page.get_by_role("button", name="Make an invitation").click()
    expect(page.get_by_label("The link")).to_contain_text("/console/invitation#")
    page.goto("/console/organisations")
    page.get_by_role("link", name="acme project").click()
    page.get_by_label("Budget a month").fill("500")
    page.get_by_label("Fallbacks").fill("gpt-x: mend")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status")).to_have_text("Saved.")
    settings = house.services.directory.project("proj_acme").settings
    assert settings["limits"]["budget"]["monthly_usd"] == 500 and settings["fallback"] == {"gpt-x": ["mend"]}
    page.goto("/console/keys/new")
    page.get_by_label("Requests a minute").fill("many")
    page.get_by_role("button", name="Make the key").click()
    expect(page.get_by_text("'many' is no number.")).to_be_visible()
    page.goto(f"/console/people/{ids['user']}")
    page.get_by_role("button", name="Make an invitation").click()
    expect(page.get_by_role("heading")).to_contain_text("has signed in or been identified")
    still.close()


def test_the_audit_is_verified_in_the_page_and_a_change_is_found(house: House, browser: Browser) -> None:
    house.run(furnish(house.services))
    olga = Person(browser, house).enrol("olga")
    page = olga.page
    page.goto("/console/audit")
    page.get_by_label("Action, or its beginning").fill("entitlement.")
    page.get_by_role("button", name="Filter").click()
    expect(page.get_by_role("row")).to_have_count(2)
    page.get_by_role("button", name="Verify all of it").click()
    expect(page.get_by_role("status")).to_contain_text("No fault in")

    async def tamper() -> None:
        async with house.services.database.begin() as connection:
            row = (await connection.execute(select(schema.audit).order_by(schema.audit.c.seq).limit(1))).one()
            changed = {"body": row.body.replace("manual", "letter")}
            await connection.execute(update(schema.audit).where(schema.audit.c.hash == row.hash).values(changed))
            first = (await connection.execute(select(schema.requests).where(schema.requests.c.id == "req_1"))).one()
            changed = {"receipt": first.receipt.replace('"cost":3100', '"cost":3')}
            await connection.execute(update(schema.requests).where(schema.requests.c.id == "req_1").values(changed))

    page.goto("/console/receipts/req_1")
    expect(page.get_by_text("genuine", exact=True)).to_be_visible()
    house.run(tamper())
    page.goto("/console/audit")
    page.get_by_role("button", name="Verify all of it").click()
    expect(page.get_by_role("status")).to_contain_text("fault")
    expect(page.locator(".state-bad").first).to_be_visible()
    page.goto("/console/receipts/req_1")
    expect(page.get_by_role("alert")).to_contain_text("has been changed")
    olga.close()
