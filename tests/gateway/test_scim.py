"""SCIM 2.0: what Okta and Entra ID send, in their forms, and what one organisation's directory must not reach."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from installation import Clock, make_key, open_services, populate
from sqlalchemy import insert, select, update
from starlette.applications import Starlette

from lathe.gateway.identity import scim
from lathe.gateway.identity.scim_paths import ScimError, parse_filter
from lathe.gateway.identity.sessions import find_session, open_session
from lathe.gateway.principals import key_digest
from lathe.gateway.services import Services
from lathe.store.gateway import schema
from lathe.store.gateway.database import Database

PATCH_OP = "urn:ietf:params:scim:api:messages:2.0:PatchOp"


class Directory:
    """The directory of an organisation, as a client of SCIM."""

    def __init__(self, http: httpx2.AsyncClient, key: str) -> None:
        self._http = http
        self._headers = {"authorization": f"Bearer {key}"}

    async def __call__(self, method: str, path: str, body: Any = None, status: int = 200, **query: Any) -> Any:
        headers = {**self._headers, "content-type": "application/scim+json"}
        answer = await self._http.request(method, f"/scim/v2{path}", json=body, params=query, headers=headers)
        assert answer.status_code == status, answer.text
        if not answer.content:
            return None
        assert answer.headers["content-type"] == "application/scim+json"
        said = answer.json()
        if status >= 400:
            assert said["schemas"] == ["urn:ietf:params:scim:api:messages:2.0:Error"]
            assert said["status"] == str(status)
        return said

    async def patch(self, path: str, *operations: Any, status: int = 200) -> Any:
        return await self("PATCH", path, {"schemas": [PATCH_OP], "Operations": list(operations)}, status)


@contextlib.asynccontextmanager
async def standing(database: Database, home: Path) -> AsyncIterator[tuple[Services, httpx2.AsyncClient]]:
    await populate(database)
    services = await open_services(database, home, Clock())
    transport = httpx2.ASGITransport(app=Starlette(routes=scim.routes(services)))
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost:8484") as http:
        yield services, http


async def directory_of(services: Services, http: httpx2.AsyncClient, organisation: str) -> Directory:
    key = await make_key(services.database, organisation, scopes=["scim"])
    await services.directory.refresh()
    return Directory(http, key)


async def test_a_directory_keeps_its_users(database: Database, tmp_path: Path) -> None:
    async with standing(database, tmp_path) as (services, http):
        acme = await directory_of(services, http, "org_acme")
        made = await acme(
            "POST",
            "/Users",
            {
                "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
                "userName": "Nora@acme.example",
                "externalId": "00u1",
                "name": {"givenName": "Nora", "familyName": "Nil"},
                "emails": [{"value": "nora@acme.example", "primary": True, "type": "work"}],
                "active": True,
                "title": "kept by nobody",
            },
            201,
        )
        user = f"/Users/{made['id']}"
        assert made["displayName"] == "Nora Nil"
        assert made["meta"]["location"] == f"http://localhost:8484/scim/v2{user}"
        again = await acme("POST", "/Users", {"userName": "NORA@ACME.EXAMPLE"}, 409)
        assert again["scimType"] == "uniqueness"
        for filter in (
            'userName eq "nora@ACME.example"',
            'externalId eq "00u1"',
            f'id eq "{made["id"]}" and active eq true',
        ):
            found = await acme("GET", "/Users", filter=filter)
            assert [one["id"] for one in found["Resources"]] == [made["id"]], filter
        assert (await acme("GET", "/Users", filter='userName eq "nobody"'))["totalResults"] == 0
        first = await acme("GET", "/Users", count=3)
        rest = await acme("GET", "/Users", startIndex=4, count=100)
        everyone = [one["id"] for one in first["Resources"] + rest["Resources"]]
        assert first["totalResults"] == rest["totalResults"] == len(everyone) == len(set(everyone)) == 7
        assert (await acme("GET", "/Users", count=0))["Resources"] == []
        search = {"filter": 'externalId eq "00u1"', "attributes": ["userName", "emails.value"], "count": 5}
        found = await acme("POST", "/Users/.search", search)
        assert [set(one) for one in found["Resources"]] == [{"schemas", "id", "userName", "emails"}]
        narrow = await acme("GET", user, attributes="userName")
        assert set(narrow) == {"schemas", "id", "userName"}
        put = await acme("PUT", user, {"userName": "nora@acme.example", "displayName": "N. Nil", "active": True})
        assert put["displayName"] == "N. Nil" and "externalId" not in put


@pytest.mark.parametrize(
    ("operations", "expected"),
    [
        ([{"op": "replace", "value": {"active": False}}], {"active": False}),  # Okta
        ([{"op": "Replace", "path": "active", "value": "False"}], {"active": False}),  # Entra ID
        ([{"op": "Add", "path": "externalId", "value": "x"}], {"externalId": "x"}),
        (
            [{"op": "Replace", "path": 'emails[type eq "work"].value', "value": "new@acme.example"}],
            {"userName": "mary@acme.example"},
        ),
        (
            [{"op": "replace", "value": {"name.formatted": "Mary M.", "displayName": "Mary M."}}],
            {"displayName": "Mary M."},
        ),
        ([{"op": "replace", "path": "USERNAME", "value": "m2@acme.example"}], {"userName": "m2@acme.example"}),
        (
            [
                {
                    "op": "add",
                    "path": "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department",
                    "value": "x",
                }
            ],
            {"userName": "mary@acme.example"},
        ),
        (
            [{"op": "replace", "path": "urn:ietf:params:scim:schemas:core:2.0:User:displayName", "value": "M"}],
            {"displayName": "M"},
        ),
        ([{"op": "remove", "path": "displayName"}, {"op": "remove", "path": "name"}], {"displayName": None}),
    ],
)
async def test_users_are_patched_in_the_forms_that_are_in_use(
    sqlite: Database, tmp_path: Path, operations: list[Any], expected: dict[str, Any]
) -> None:
    async with standing(sqlite, tmp_path) as (services, http):
        acme = await directory_of(services, http, "org_acme")
        said = await acme.patch("/Users/user_mary", *operations)
        assert {name: said.get(name) for name in expected} == expected
        assert await acme("GET", "/Users/user_mary") == said


@pytest.mark.parametrize("how", ["patch", "delete"])
async def test_who_is_closed_is_out_at_once(database: Database, tmp_path: Path, how: str) -> None:
    async with standing(database, tmp_path) as (services, http):
        acme = await directory_of(services, http, "org_acme")
        now = services.clock()
        key = await make_key(database, "org_acme", "user_mary")
        async with database.begin() as connection:
            cookie = await open_session(connection, "user_mary", "passkey", "passkey", now)
            assert await find_session(connection, cookie, now)
        await services.directory.refresh()
        assert services.directory.principal(key_digest(key))
        if how == "patch":
            await acme.patch("/Users/user_mary", {"op": "replace", "value": {"active": False}})
        else:
            await acme("DELETE", "/Users/user_mary", status=204)
        assert services.directory.principal(key_digest(key)) is None
        async with database.begin() as connection:
            assert await find_session(connection, cookie, now) is None
        if how == "patch":
            await acme.patch("/Users/user_mary", {"op": "replace", "value": {"active": True}})
            assert services.directory.principal(key_digest(key)) is None  # what is dead stays so
            return
        await acme("GET", "/Users/user_mary", status=404)
        assert (await acme("GET", "/Users", filter='userName eq "mary@acme.example"'))["totalResults"] == 0
        another = await acme("POST", "/Users", {"userName": "mary@acme.example"}, 201)
        assert another["id"] != "user_mary"
        async with database.begin() as connection:
            records = (await connection.execute(select(schema.audit.c.body))).scalars().all()
        assert any('"user.removed"' in record and "mary@acme.example" in record for record in records)


async def test_groups_give_what_an_administrator_said(database: Database, tmp_path: Path) -> None:
    async with standing(database, tmp_path) as (services, http):
        acme = await directory_of(services, http, "org_acme")
        made = await acme("POST", "/Groups", {"displayName": "Security", "members": [{"value": "user_mary"}]}, 201)
        group = f"/Groups/{made['id']}"
        assert [one["value"] for one in made["members"]] == ["user_mary"]
        async with database.begin() as connection:
            await connection.execute(update(schema.groups).values(grants={"roles": ["admin"]}))
            await database.changed(connection, "principals")
        await services.directory.refresh()
        assert "admin" in services.directory.user("user_mary").roles
        assert (await acme("GET", "/Users/user_mary"))["groups"] == [{"value": made["id"], "display": "Security"}]

        async def members() -> set[str]:
            return {one["value"] for one in (await acme("GET", group)).get("members", [])}

        await acme.patch(
            group, {"op": "add", "path": "members", "value": [{"value": "user_anna"}, {"value": "user_mary"}]}
        )
        assert await members() == {"user_mary", "user_anna"}
        await acme.patch(group, {"op": "remove", "path": 'members[value eq "user_mary"]'})
        assert await members() == {"user_anna"}
        assert "admin" not in services.directory.user("user_mary").roles
        await acme.patch(group, {"op": "Add", "path": "members", "value": [{"value": "user_rita"}]})
        await acme.patch(group, {"op": "Remove", "path": "members", "value": [{"value": "user_rita"}]})
        assert await members() == {"user_anna"}
        await acme.patch(group, {"op": "replace", "value": {"id": made["id"], "displayName": "Sec"}})
        await acme.patch(group, {"op": "replace", "path": "members", "value": [{"value": "user_rolf"}]})
        assert await members() == {"user_rolf"}
        found = await acme("GET", "/Groups", filter='displayName eq "sec"', excludedAttributes="members")
        assert found["totalResults"] == 1 and "members" not in found["Resources"][0]
        await acme.patch(group, {"op": "remove", "path": "members"})
        assert await members() == set()
        put = await acme("PUT", group, {"displayName": "Sec", "members": [{"value": "user_mary"}]})
        assert [one["value"] for one in put["members"]] == ["user_mary"]
        await acme.patch(group, {"op": "add", "path": "members", "value": [{"value": "user_bill"}]}, status=400)
        await acme("DELETE", group, status=204)
        await acme("GET", group, status=404)
        assert "admin" not in services.directory.user("user_mary").roles


async def test_no_directory_reaches_another_organisation_or_a_role_of_the_installation(
    database: Database, tmp_path: Path
) -> None:
    async with standing(database, tmp_path) as (services, http):
        acme, beta = await directory_of(services, http, "org_acme"), await directory_of(services, http, "org_beta")
        async with database.begin() as connection:
            await connection.execute(
                insert(schema.groups).values(id="group_a", organisation="org_acme", name="A", created=1)
            )
        for kind, id in (("Users", "user_mary"), ("Groups", "group_a")):
            await beta("GET", f"/{kind}/{id}", status=404)
            await beta("PUT", f"/{kind}/{id}", {"userName": "x@beta.example", "displayName": "x"}, 404)
            await beta.patch(f"/{kind}/{id}", {"op": "replace", "value": {"displayName": "x"}}, status=404)
            await beta("DELETE", f"/{kind}/{id}", status=404)
            listed = await beta("GET", f"/{kind}", filter=f'id eq "{id}"')
            assert listed["totalResults"] == 0
        await acme.patch(
            "/Users/user_rita", {"op": "replace", "path": "userName", "value": "eve@acme.example"}, status=403
        )
        await acme("DELETE", "/Users/user_olga", status=403)
        await acme.patch("/Users/user_olga", {"op": "replace", "value": {"active": False}}, status=403)
        await acme.patch("/Users/user_rita", {"op": "replace", "value": {"active": False}})
        await acme.patch("/Users/user_rita", {"op": "replace", "value": {"active": True}}, status=403)


async def test_only_a_key_for_it_is_let_in(sqlite: Database, tmp_path: Path) -> None:
    async with standing(sqlite, tmp_path) as (services, http):
        await Directory(http, "lathe-nonsense")("GET", "/Users", status=401)
        await Directory(http, await make_key(sqlite, "org_acme"))("GET", "/Users", status=401)  # not known yet
        relay = await make_key(sqlite, "org_acme")
        member = await make_key(sqlite, "org_acme", "user_mary", scopes=["scim"])
        project = await make_key(sqlite, "org_acme", project="proj_acme", scopes=["scim"])
        await services.directory.refresh()
        for key in (relay, member, project):
            await Directory(http, key)("GET", "/Users", status=403)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/Users", b"{", 400),
        ("POST", "/Users", b"[" * 100_000, 400),
        ("POST", "/Users", b"\xff\xfe", 400),
        ("POST", "/Users", b"[]", 400),
        ("POST", "/Users", b'{"userName": 7}', 400),
        ("POST", "/Users", b'{"userName": "no address"}', 400),
        ("POST", "/Users", b'{"userName": "a@b", "active": "perhaps"}', 400),
        ("POST", "/Users", b'{"userName": "' + b"a" * 400 + b'@b.example"}', 400),
        ("POST", "/Groups", b'{"displayName": "x", "members": "all"}', 400),
        ("POST", "/Groups", b'{"displayName": "x", "members": [{"value": 1}]}', 400),
        ("PATCH", "/Users/user_mary", b'{"Operations": []}', 400),
        ("PATCH", "/Users/user_mary", b'{"Operations": [{"op": "move", "path": "a"}]}', 400),
        ("PATCH", "/Users/user_mary", b'{"Operations": [{"op": "replace", "path": "emails[", "value": 1}]}', 400),
        ("PATCH", "/Users/user_mary", b'{"Operations": [{"op": "remove"}]}', 400),
        ("PATCH", "/Users/user_mary", b'{"Operations": [{"op": "replace", "path": "userName"}]}', 400),
        ("PATCH", "/Users/user_mary", b'{"Operations": [7]}', 400),
        ("GET", "/Users?filter=userName%20co%20%22a%22", b"", 400),
        ("GET", "/Users?filter=userName%20eq%20%22a%22%20or%20active%20eq%20true", b"", 400),
        ("GET", "/Users?count=many", b"", 400),
        ("GET", "/Users/..%2fGroups", b"", 404),
        ("GET", "/Nothing", b"", 404),
        ("POST", "/Schemas", b"{}", 405),
        ("POST", "/Users", b"x" * (5 << 20), 413),
    ],
)
async def test_nonsense_gets_an_error_of_the_standard(
    sqlite: Database, tmp_path: Path, method: str, path: str, body: bytes, status: int
) -> None:
    async with standing(sqlite, tmp_path) as (services, http):
        key = await make_key(sqlite, "org_acme", scopes=["scim"])
        await services.directory.refresh()
        answer = await http.request(
            method,
            f"/scim/v2{path}",
            content=body or None,
            headers={"authorization": f"Bearer {key}", "content-type": "application/scim+json"},
        )
        assert answer.status_code == status, answer.text
        assert answer.json()["schemas"] == ["urn:ietf:params:scim:api:messages:2.0:Error"]


async def test_the_service_says_what_it_can(sqlite: Database, tmp_path: Path) -> None:
    async with standing(sqlite, tmp_path) as (services, http):
        acme = await directory_of(services, http, "org_acme")
        assert (await acme("GET", "/ServiceProviderConfig"))["patch"] == {"supported": True}
        listed = await acme("GET", "/Schemas")
        for one in listed["Resources"]:
            assert await acme("GET", f"/Schemas/{one['id']}") == one
        assert [one["id"] for one in (await acme("GET", "/ResourceTypes"))["Resources"]] == ["User", "Group"]
        await acme("GET", "/ResourceTypes/Robot", status=404)


def test_a_filter_is_read_whole_or_not_at_all() -> None:
    assert parse_filter(r'urn:x:y:userName EQ "a\"b" AND active eq True') == [
        ("username", 'a"b', False),
        ("active", True, False),
    ]
    for text in (
        "",
        "userName",
        "userName eq",
        'userName eq "a" and',
        'userName eq "a',
        "a pr 1",
        'a eq "b" x',
        "a" * 9_999,
    ):
        with pytest.raises(ScimError):
            parse_filter(text)
