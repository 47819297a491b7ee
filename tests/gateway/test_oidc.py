"""Sign-in by OpenID Connect: with a real provider, and against one that lies."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from joserfc import jws
from joserfc.jwk import RSAKey
from providers import Hostile, real_provider, sign_in_there
from sqlalchemy import insert, select, update

from lathe.gateway.identity.id_tokens import TokenRefused
from lathe.gateway.identity.levels import level_of
from lathe.gateway.identity.oidc import Identified, OidcClient
from lathe.gateway.identity.people import find_person, subject_of
from lathe.gateway.identity.settings import OidcTable
from lathe.gateway.identity.site import Refused, Site
from lathe.protocol.errors import ConfigError
from lathe.store.gateway.database import Database
from lathe.store.gateway.schema import organisations, users

SITE = Site("http://localhost:8484", "localhost")
BACK = "http://localhost:8484/console/sign-in/oidc/corp/back"


class Clock:
    def __init__(self) -> None:
        self.ahead_ms = 0

    def __call__(self) -> int:
        return time.time_ns() // 1_000_000 + self.ahead_ms


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    with real_provider(BACK) as issuer:
        yield issuer


@pytest.fixture
def hostile() -> Iterator[Hostile]:
    provider = Hostile()
    yield provider
    provider.close()


def client(issuer: str, name: str = "lathe", **more: Any) -> OidcClient:
    return OidcClient("corp", OidcTable(issuer=issuer, client_id=name, **more), Clock())


async def answered(database: Database, oidc: OidcClient, login: str, **more: str) -> Identified:
    async with database.begin() as connection:
        url, browser = await oidc.start(connection, SITE, "/console")
    async with httpx2.AsyncClient() as there:
        back = await sign_in_there(there, url, login, **more)
    assert back.startswith(BACK)
    return await finished(database, oidc, dict(httpx2.URL(back).params), browser)


async def finished(database: Database, oidc: OidcClient, query: dict[str, str], browser: str) -> Identified:
    async with database.begin() as connection:
        kept = await oidc.claim(connection, query, browser)
    return await oidc.finish(query, kept, SITE)


@pytest.mark.parametrize(
    ("name", "secret", "amr", "acr", "level"),
    [
        ("lathe", True, "pwd", "", "account"),
        ("lathe", True, "pwd otp", "", "mfa"),
        ("lathe-public", False, "hwk pin", "", "passkey"),
        ("lathe-public", False, "pwd", "phr", "passkey"),
    ],
)
async def test_a_person_signs_in_with_a_real_provider(
    sqlite: Database,
    issuer: str,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    secret: bool,
    amr: str,
    acr: str,
    level: str,
) -> None:
    more: dict[str, Any] = {}
    if secret:
        monkeypatch.setenv("CORP", "a secret of 32 letters, or so: ok")
        more["client_secret_env"] = "CORP"
    who = await answered(sqlite, client(issuer, name, **more), "ada@example.org", amr=amr, acr=acr)
    assert who == Identified(
        issuer, "ada@example.org", "ada@example.org", "ada", level, tuple(amr.split()) if not acr else ("pwd",), acr
    )


async def test_a_provider_that_says_no_is_told_of(sqlite: Database, issuer: str) -> None:
    with pytest.raises(Refused, match="said no"):
        await answered(sqlite, client(issuer, "lathe-public"), "")


async def test_an_address_that_is_not_verified_does_not_count(sqlite: Database, issuer: str) -> None:
    who = await answered(sqlite, client(issuer, "lathe-public"), "unverified@example.org")
    assert who.email == ""


async def test_a_level_below_the_demanded_one_is_not_let_in(sqlite: Database, issuer: str) -> None:
    with pytest.raises(Refused, match="'mfa' is needed"):
        await answered(sqlite, client(issuer, "lathe-public", level="mfa"), "ada@example.org")


def _signed_with_the_public_key(provider: Hostile) -> str:
    """A token whose secret is the provider's public key, as a client that takes HS256 from anyone would believe."""
    head = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"one"}').rstrip(b"=").decode()
    signed = f"{head}.{provider.id_token().split('.')[1]}"
    made = hmac.digest(provider.keys["one"].as_pem(private=False), signed.encode(), "sha256")
    return f"{signed}.{base64.urlsafe_b64encode(made).rstrip(b'=').decode()}"


def _unsigned(provider: Hostile) -> str:
    head = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=").decode()
    return f"{head}.{provider.id_token().split('.')[1]}."


def _changed(provider: Hostile) -> str:
    head, _, signature = provider.id_token().split(".")
    claims = json.loads(jws.extract_compact(provider.id_token().encode()).payload) | {"sub": "the boss"}
    return f"{head}.{base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b'=').decode()}.{signature}"


def _strangers(provider: Hostile) -> str:
    provider.keys["mine"] = RSAKey.generate_key(2048, {"kid": "one"}, private=True)
    provider.signing, provider.header = "mine", {"kid": "one"}
    token = provider.id_token()
    del provider.keys["mine"]
    return token


def _weak(provider: Hostile) -> str:
    provider.keys["weak"] = RSAKey.generate_key(1024, {"kid": "weak"}, private=True)
    provider.signing = "weak"
    return provider.id_token()


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"iss": "https://elsewhere.example"}, "another issuer"),
        ({"aud": "another"}, "another client"),
        ({"aud": ["lathe", "another"]}, "another client"),
        ({"aud": ["lathe", "another"], "azp": "another"}, "another client"),
        ({"azp": "another"}, "another client"),
        ({"aud": 7}, "another client"),
        ({"exp": time.time() - 120}, "expired"),
        ({"exp": "tomorrow"}, "expired"),
        ({"exp": True}, "expired"),
        ({"iat": time.time() + 10**7}, "future"),
        ({"nbf": time.time() + 10**7}, "future"),
        ({"nonce": "of another sign-in"}, "another sign-in"),
        ({"nonce": None}, "another sign-in"),
        ({"at_hash": "AAAA"}, "another access token"),
        ({"sub": ""}, "no subject"),
        ({"sub": ["a"]}, "no subject"),
        (_signed_with_the_public_key, "HS256"),
        (_unsigned, "none"),
        (_changed, "no key of the provider"),
        (_strangers, "no key of the provider"),
        (_weak, "no key of the provider"),
        (lambda provider: "no token at all", "no signed token"),
        (lambda provider: "..", "no signed token"),
    ],
)
@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")
async def test_a_wrong_token_is_refused(sqlite: Database, hostile: Hostile, said: Any, why: str) -> None:
    oidc = client(hostile.issuer)
    async with sqlite.begin() as connection:
        url, browser = await oidc.start(connection, SITE, "/console")
    query = hostile.authorise(url)
    if callable(said):
        hostile.token = said(hostile)
    else:
        hostile.claims = said
    with pytest.raises(TokenRefused, match=why):
        await finished(sqlite, oidc, query, browser)


async def test_the_code_is_exchanged_with_the_verifier_of_the_challenge(sqlite: Database, hostile: Hostile) -> None:
    oidc = client(hostile.issuer)
    async with sqlite.begin() as connection:
        url, browser = await oidc.start(connection, SITE, "/console")
    query = hostile.authorise(url)
    await finished(sqlite, oidc, query, browser)
    verifier = hostile.exchanged[0]["code_verifier"]
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    assert hostile.asked["code_challenge"] == challenge
    assert hostile.asked["code_challenge_method"] == "S256"
    assert len(verifier) >= 43


async def test_an_answer_is_taken_once_and_only_from_the_browser_that_asked(sqlite: Database, hostile: Hostile) -> None:
    oidc = client(hostile.issuer)
    async with sqlite.begin() as connection:
        url, browser = await oidc.start(connection, SITE, "/console")
        stolen, _ = await oidc.start(connection, SITE, "/console")
    with pytest.raises(Refused, match="another browser"):
        await finished(sqlite, oidc, hostile.authorise(stolen), browser)
    query = hostile.authorise(url)
    await finished(sqlite, oidc, query, browser)
    with pytest.raises(Refused, match="used or is too old"):
        await finished(sqlite, oidc, query, browser)


@pytest.mark.parametrize("query", [{"iss": "https://elsewhere.example"}, {}])
async def test_an_answer_of_another_provider_is_refused(
    sqlite: Database, hostile: Hostile, query: dict[str, str]
) -> None:
    hostile.metadata = {"authorization_response_iss_parameter_supported": True}
    oidc = client(hostile.issuer)
    async with sqlite.begin() as connection:
        url, browser = await oidc.start(connection, SITE, "/console")
    with pytest.raises(Refused, match="another identity provider"):
        await finished(sqlite, oidc, hostile.authorise(url) | query, browser)
    assert not hostile.exchanged


async def test_userinfo_of_somebody_else_is_refused(sqlite: Database, hostile: Hostile) -> None:
    hostile.drop, hostile.userinfo = {"email"}, {"sub": "the boss", "email": "boss@example.org", "email_verified": True}
    oidc = client(hostile.issuer)
    async with sqlite.begin() as connection:
        url, browser = await oidc.start(connection, SITE, "/console")
    with pytest.raises(TokenRefused, match="somebody else"):
        await finished(sqlite, oidc, hostile.authorise(url), browser)


async def test_keys_are_fetched_anew_when_the_provider_changes_them(sqlite: Database, hostile: Hostile) -> None:
    clock = Clock()
    oidc = OidcClient("corp", OidcTable(issuer=hostile.issuer, client_id="lathe"), clock)

    async def once() -> None:
        async with sqlite.begin() as connection:
            url, browser = await oidc.start(connection, SITE, "/console")
        await finished(sqlite, oidc, hostile.authorise(url), browser)

    await once()
    await once()
    assert hostile.key_fetches == 1
    hostile.keys["two"] = RSAKey.generate_key(2048, {"kid": "two"}, private=True)
    hostile.signing = "two"
    with pytest.raises(TokenRefused):  # somebody who makes up keys does not have us ask at every turn
        await once()
    assert hostile.key_fetches == 1
    clock.ahead_ms = 31_000
    await once()
    assert hostile.key_fetches == 2
    old = hostile.keys.pop("one")
    clock.ahead_ms = 4_000_000
    hostile.claims = {"exp": time.time() + 10_000}
    await once()
    hostile.keys["one"], hostile.signing = old, "one"
    hostile.answer_keys = False
    token = hostile.id_token()
    del hostile.keys["one"]
    hostile.token, hostile.signing = token, "two"
    with pytest.raises(TokenRefused, match="no key"):
        await once()


async def test_a_provider_that_is_not_who_it_should_be_is_not_used(sqlite: Database, hostile: Hostile) -> None:
    for metadata in (
        {"issuer": "https://elsewhere.example"},
        {"token_endpoint": "http://elsewhere.example/token"},
        {"jwks_uri": None},
    ):
        hostile.metadata = metadata
        async with sqlite.begin() as connection:
            with pytest.raises(Refused) as refused:
                await client(hostile.issuer).start(connection, SITE, "/console")
        assert refused.value.status == 502


def test_settings_that_cannot_work_are_said() -> None:
    for table, why in (
        (OidcTable(issuer="http://idp.example", client_id="a"), "plain http"),
        (OidcTable(issuer="https://idp.example", client_id="a", scopes=("email",)), "openid"),
        (OidcTable(issuer="https://idp.example", client_id="a", client_secret_env="NOT_SET"), "NOT_SET"),
    ):
        with pytest.raises(ConfigError, match=why):
            OidcClient("corp", table, Clock())


def test_levels_come_from_amr_and_acr() -> None:
    for claims, level in (
        ({}, "account"),
        ({"amr": "mfa"}, "account"),
        ({"amr": ["pwd"]}, "account"),
        ({"amr": ["pwd", "pin"]}, "account"),
        ({"amr": ["hwk"]}, "account"),
        ({"amr": ["pwd", "sms"]}, "mfa"),
        ({"amr": ["mfa"]}, "mfa"),
        ({"amr": ["hwk", "fpt"]}, "passkey"),
        ({"acr": "phrh"}, "passkey"),
        ({"acr": "gold"}, "mfa"),
    ):
        assert level_of(claims, mfa_acr=("gold",)) == level, claims


async def test_who_was_invited_is_bound_at_the_first_sign_in(database: Database) -> None:
    table = OidcTable(issuer="https://idp.example", client_id="a", domains={"Example.org": "acme"})
    ada = Identified("https://idp.example", "1", "ada@example.org", "Ada", "mfa")
    async with database.begin() as connection:
        await connection.execute(insert(organisations).values(id="org_1", name="acme", created=1))
        await connection.execute(
            insert(users).values(id="user_ada", organisation="org_1", email="Ada@Example.org", created=1)
        )
        assert await find_person(connection, ada, table, 5) == ("user_ada", True)
        assert await find_person(connection, ada, table, 5) == ("user_ada", False)
        assert await find_person(connection, ada._replace(email="", level="passkey"), table, 6) == ("user_ada", True)
        row = (await connection.execute(select(users).where(users.c.id == "user_ada"))).one()
        assert row.subject == subject_of("https://idp.example", "1")
        assert row.identity["level"] == "passkey"
    async with database.begin() as connection:
        with pytest.raises(Refused, match="belongs to an account"):
            await find_person(connection, ada._replace(subject="2"), table, 5)
        with pytest.raises(Refused, match="Nobody here has this account"):
            await find_person(connection, ada._replace(subject="2", email=""), table, 5)
        with pytest.raises(Refused, match="Nobody has invited"):
            await find_person(connection, ada._replace(subject="3", email="eve@else.example"), table, 5)
        narrow = OidcTable(issuer="https://idp.example", client_id="a", speaks_for=("else.example",))
        with pytest.raises(Refused, match="Nobody here"):
            await find_person(connection, ada._replace(subject="4", email="bob@example.org"), narrow, 5)
    async with database.begin() as connection:
        bob, _ = await find_person(connection, ada._replace(subject="4", email="bob@example.org"), table, 5)
        row = (await connection.execute(select(users).where(users.c.id == bob))).one()
        assert (row.organisation, row.roles) == ("org_1", ["member"])
        await connection.execute(update(users).where(users.c.id == bob).values(active=False))
    async with database.begin() as connection:
        with pytest.raises(Refused, match="closed"):
            await find_person(connection, ada._replace(subject="4"), table, 5)
