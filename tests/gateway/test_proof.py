"""Proofs of identity: papers, letters, addresses, plug-ins; and invitations, which must not pass for a person."""

from __future__ import annotations

import contextlib
import hashlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from installation import Clock, open_services, populate
from mailing import mailbox
from sqlalchemy import select, update
from starlette.applications import Starlette

from lathe.gateway.admin.applications import review_application, submit_application
from lathe.gateway.admin.faults import AdminError
from lathe.gateway.admin.routes import routes as admin_routes
from lathe.gateway.admin.shapes_access import Judgement, NewApplication
from lathe.gateway.console import routes as console
from lathe.gateway.console.gate import session_principal
from lathe.gateway.identity.addresses import send_address_link
from lathe.gateway.identity.entrance import open_entrance
from lathe.gateway.identity.invitations import invite_by_host, invite_operator, invite_user
from lathe.gateway.identity.oidc import Identified
from lathe.gateway.identity.proof import (
    DEFAULT_NEEDS,
    Proof,
    check_needs,
    methods,
    needs_of,
    oidc_proof,
    record,
    wanting,
)
from lathe.gateway.identity.proofs import bring_proof, list_proofs
from lathe.gateway.identity.sessions import find_session, open_session
from lathe.gateway.identity.settings import SmtpTable
from lathe.gateway.identity.site import Site
from lathe.gateway.services import Services
from lathe.gateway.signing import encode
from lathe.protocol.errors import ConfigError
from lathe.store.gateway import schema
from lathe.store.gateway.database import Database

SITE = Site("http://localhost:8484", "localhost")
LETTER = b"%PDF We, Acme, ask for access for our red team."


@pytest.fixture
async def services(sqlite: Database, tmp_path: Path) -> Services:
    await populate(sqlite)
    return await open_services(sqlite, tmp_path, Clock())


async def bring(
    services: Services, who: str, method: str, subject: str, files: dict[str, bytes], **fields: str
) -> Proof:
    principal = services.directory.principal_of(f"user_{who}")
    assert principal
    return await bring_proof(services, principal, method, subject, fields, files)


async def test_a_reviewer_states_what_was_seen_of_somebody_else(services: Services) -> None:
    seen = "Passport of the Netherlands, valid until 2031"
    proof = await bring(services, "rita", "manual", "user:user_mary", {}, seen=seen)
    assert (proof.level, proof.author) == ("seen", "user:user_rita")
    user = services.directory.user("user_mary")
    assert user and user.identity["method"] == "manual"
    for who, subject, fields, code in (
        ("rita", "user:user_rita", {"seen": seen}, "own_thing"),
        ("rita", "user:user_mary", {"seen": "ok"}, "proof_refused"),
        ("anna", "user:user_mary", {"seen": seen}, "role_missing"),
        ("rita", "user:nobody", {"seen": seen}, "not_found"),
        ("rita", "project:proj_acme", {"seen": seen}, "invalid"),
    ):
        with pytest.raises(AdminError) as refused:
            await bring(services, who, "manual", subject, {}, **fields)
        assert refused.value.code == code
    anna, bert = (services.directory.principal_of(f"user_{name}") for name in ("anna", "bert"))
    assert anna and bert
    assert [one.method for one in await list_proofs(services, anna, "user:user_mary")] == ["manual"]
    with pytest.raises(AdminError, match="no such user"):
        await list_proofs(services, bert, "user:user_mary")


async def test_a_letter_counts_by_its_signature_or_by_a_reviewer_who_has_checked_it(services: Services) -> None:
    key = Ed25519PrivateKey.generate()
    public, signature = key.public_key().public_bytes_raw(), key.sign(LETTER)
    stated = {"signature": encode(signature), "public_key": encode(public), "published": "https://acme.example/keys"}
    proof = await bring(services, "rita", "letter", "organisation:org_acme", {"letter": LETTER}, **stated)
    assert proof.evidence["sha256"] == hashlib.sha256(LETTER).hexdigest()
    in_hexadecimal = stated | {"signature": signature.hex(), "public_key": public.hex()}
    await bring(services, "rita", "letter", "organisation:org_acme", {"letter": LETTER}, **in_hexadecimal)
    await bring(services, "rita", "letter", "organisation:org_acme", {"letter": LETTER}, note="Rang their counsel.")
    for files, fields, why in (
        ({"letter": LETTER + b" "}, stated, "not the letter's"),
        ({"letter": LETTER}, stated | {"signature": "AAAA"}, "not the letter's"),
        ({"letter": LETTER}, stated | {"public_key": "zz" * 32}, "not the letter's"),
        ({"letter": LETTER}, stated | {"published": ""}, "published"),
        ({"letter": LETTER}, {}, "how the letter was checked"),
        ({}, stated, "is a file"),
    ):
        with pytest.raises(AdminError, match=why):
            await bring(services, "rita", "letter", "organisation:org_acme", files, **fields)
    with pytest.raises(AdminError, match="not a proof for users"):
        await bring(services, "rita", "letter", "user:user_mary", {"letter": LETTER}, **stated)


async def test_an_application_is_approved_when_the_proofs_of_its_tier_are_there(services: Services) -> None:
    rita, mary = (services.directory.principal_of(f"user_{name}") for name in ("rita", "mary"))
    assert rita and mary

    async def reviewed(services: Services) -> str:
        asked = NewApplication(tier="verified", why="We test our own pages.")
        made = await submit_application(services, mary, asked)
        return (await review_application(services, rita, made.id, Judgement(verdict="approve"))).state

    with pytest.raises(AdminError, match="a sign-in at a provider with a second factor, or documents"):
        await reviewed(services)
    row = await _user(services, "user_mary")
    async with services.database.begin() as connection:
        who = Identified("https://idp.example", "1", "mary@acme.example", "Mary", "account")
        await record(connection, row, oidc_proof(who, services.clock()))
    with pytest.raises(AdminError, match="second factor"):
        await reviewed(services)
    lenient = services._replace(
        settings=msgspec.structs.replace(services.settings, proof={"verified": (("oidc:account",),)})
    )
    assert await reviewed(lenient) == "approved"
    async with services.database.begin() as connection:
        await record(connection, row, oidc_proof(who._replace(level="mfa"), services.clock()))
    assert await reviewed(services) == "approved"
    assert (await _user(services, "user_mary")).identity["level"] == "mfa"


async def _user(services: Services, id: str) -> Any:
    async with services.database.begin() as connection:
        return (await connection.execute(select(schema.users).where(schema.users.c.id == id))).one()


async def test_a_method_comes_as_a_plug_in(services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="badge"):
        check_needs({"verified": (("badge:mfa",),)})
    (tmp_path / "site" / "idcheck-1.dist-info").mkdir(parents=True)
    (tmp_path / "site" / "idcheck-1.dist-info" / "METADATA").write_text("Name: idcheck\nVersion: 1\n")
    points = "[lathe.identity]\nbadge = idcheck:BADGE\nbroken = idcheck:NOTHING\nmanual = idcheck:TAKEN\n"
    (tmp_path / "site" / "idcheck-1.dist-info" / "entry_points.txt").write_text(points)
    (tmp_path / "site" / "idcheck.py").write_text(
        "from lathe.gateway.identity.proof import Method, Proof\n"
        "async def check(claim):\n"
        "    return Proof('manual', 'mfa', 'user:user_olga', {'badge': claim.fields['badge']}, 0)\n"
        "BADGE = Method('badge', 'Badge', check, (('badge', 'Number'),))\n"
        "TAKEN = Method('manual', 'Not so', check)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    methods.cache_clear()
    try:
        assert list(methods()) == ["manual", "letter", "badge"]
        assert methods()["manual"].title == "Seen by a reviewer"
        proof = await bring(services, "rita", "badge", "user:user_mary", {}, badge="0042")
        # Whose it is and by what method is not for the plug-in to say.
        assert (proof.subject, proof.method, proof.level) == ("user:user_mary", "badge", "mfa")
        check_needs({"verified": (("badge:mfa",),)})
    finally:
        methods.cache_clear()
        sys.modules.pop("idcheck", None)


def test_what_a_tier_needs_is_data() -> None:
    def shown(*words: str) -> list[Proof]:
        return [Proof(word.split(":")[0], word.split(":")[1], "user:x", {}, 0) for word in words]  # type: ignore[arg-type]

    specialist = needs_of("specialist", {})
    assert specialist == DEFAULT_NEEDS["specialist"]
    assert "second factor" in wanting(specialist, shown("oidc:account", "letter:seen"))
    assert wanting(specialist, shown("oidc:passkey", "letter:seen")) == ""
    assert (
        wanting(specialist, shown("oidc:mfa")) == "a letter of the organisation, or documents that a reviewer has seen"
    )
    own = needs_of("verified", {"verified": (("*:address",),)})
    assert wanting(own, shown("email:address")) == ""
    assert wanting(own, []) == "any proof"
    assert wanting(needs_of("default", {}), []) == ""
    assert wanting(needs_of("verified", {}), shown("email:address", "oidc:account"))


@contextlib.asynccontextmanager
async def visitor(services: Services, cookie: str = "") -> AsyncIterator[httpx2.AsyncClient]:
    entrance = open_entrance(services)
    services = services._replace(session_principal=session_principal(entrance))
    transport = httpx2.ASGITransport(app=Starlette(routes=[*console.routes(entrance), *admin_routes(services)]))
    async with httpx2.AsyncClient(transport=transport, base_url=SITE.origin, cookies={"lathe": cookie}) as http:
        yield http


async def test_a_link_to_an_address_shows_that_it_is_read(services: Services) -> None:
    olga, anna = (services.directory.principal_of(f"user_{name}") for name in ("olga", "anna"))
    assert olga and anna
    link = await send_address_link(services, olga, "user:user_mary", "", SITE)
    async with visitor(services) as http:
        assert "mary@acme.example" in (await http.get(link)).text
        ticket = link.split("=")[1]
        assert "Thank you" in (await http.post("/console/address", data={"ticket": ticket})).text
        assert (await http.post("/console/address", data={"ticket": ticket})).status_code == 403
    await services.directory.refresh()
    user = services.directory.user("user_mary")
    assert user and user.identity["level"] == "address"
    with pytest.raises(AdminError, match="sends no mail"):
        await send_address_link(services, anna, "user:user_mary", "", SITE)
    async with mailbox() as box:
        smtp = SmtpTable(host="127.0.0.1", port=box.port, tls="off", sender="gateway@acme.example")
        mailing = services._replace(settings=msgspec.structs.replace(services.settings, smtp=smtp))
        assert await send_address_link(mailing, anna, "organisation:org_acme", "it@acme.example", SITE) == ""
        [mail] = box.mails
        assert "To: it@acme.example" in mail and "/console/address?ticket=" in mail
        for address in ("it@acme.example\r\nBcc: all@acme.example", "two@a@b", "none"):
            with pytest.raises(AdminError, match="no e-mail address"):
                await send_address_link(mailing, anna, "organisation:org_acme", address, SITE)
    with pytest.raises(AdminError, match="could not be sent"):
        await send_address_link(mailing, anna, "organisation:org_acme", "it@acme.example", SITE)


async def test_an_invitation_is_no_way_to_pass_for_somebody(services: Services) -> None:
    directory = services.directory
    olga, anna, bert = (directory.principal_of(f"user_{name}") for name in ("olga", "anna", "bert"))
    assert olga and anna and bert
    assert (await invite_user(services, anna, "user_mary", SITE)).startswith(f"{SITE.origin}/console/invitation#")
    for who, user, why in (
        (anna, "user_rita", "role of the installation"),
        (bert, "user_mary", "no such user"),
    ):
        with pytest.raises(AdminError, match=why):
            await invite_user(services, who, user, SITE)
    async with services.database.begin() as connection:
        await connection.execute(update(schema.users).where(schema.users.c.id == "user_mary").values(subject="x#1"))
    with pytest.raises(AdminError, match="has signed in"):
        await invite_user(services, anna, "user_mary", SITE)
    await invite_user(services, olga, "user_mary", SITE)
    assert await invite_operator(services.database, SITE, services.clock())
    async with services.database.begin() as connection:
        await connection.execute(update(schema.users).where(schema.users.c.id == "user_olga").values(subject="x#2"))
    assert await invite_operator(services.database, SITE, services.clock()) is None
    assert (await invite_by_host(services.database, SITE, "Olga@Acme.example", services.clock())).startswith(
        SITE.origin
    )
    with pytest.raises(ConfigError, match="There is no user nobody"):
        await invite_by_host(services.database, SITE, "nobody@acme.example", services.clock())
    async with services.database.begin() as connection:
        bodies = (await connection.execute(select(schema.audit.c.body))).scalars().all()
    assert sum('"user.invited"' in body for body in bodies) == 4


async def test_the_json_api_takes_a_session_only_with_its_token(services: Services) -> None:
    now = services.clock()
    async with services.database.begin() as connection:
        cookie = await open_session(connection, "user_anna", "passkey", "passkey", now)
        session = await find_session(connection, cookie, now)
    assert session
    async with visitor(services, cookie) as http:
        assert (await http.get("/admin/v1/users")).status_code == 200
        body: dict[str, Any] = {"name": "Red"}
        for headers, status in (
            ({}, 401),
            ({"x-csrf-token": "guessed"}, 401),
            ({"x-csrf-token": session.csrf, "origin": "https://evil.example"}, 401),
            ({"x-csrf-token": session.csrf}, 201),
        ):
            answer = await http.post("/admin/v1/groups", json=body, headers=headers)
            assert answer.status_code == status, answer.text
        assert (await http.get("/admin/v1/users", headers={"host": "evil.example"})).status_code == 401
