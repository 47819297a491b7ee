"""`lathe access` against real gateways: a person's whole way, what is verified without one, and clear refusals."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from gateways import Running, running
from postgresql import Cluster
from rulings import DEVELOPS, judge, situation

from lathe.cli.main import main
from lathe.gateway.principals import key_digest
from lathe.gateway.settings import GatewaySettings
from lathe.guard.ladder import Target


class Ran(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Access:
    """`lathe access` of one person after the other, each with a key of their own."""

    def __init__(self, gateway: Running, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.keys = {"operator": gateway.key}
        self._setenv = monkeypatch.setenv
        self._read = capsys.readouterr
        self._setenv("LATHE_GATEWAY_URL", gateway.url)

    async def __call__(self, who: str, *words: str) -> Ran:
        self._setenv("LATHE_GATEWAY_KEY", self.keys.get(who, ""))
        self._read()
        code = await asyncio.to_thread(main, ["access", *words])
        return Ran(code, *self._read())

    async def done(self, who: str, *words: str) -> Any:
        ran = await self(who, *words, "--json")
        assert ran.code == 0, (words, ran)
        return ran.json

    async def person(self, name: str, role: str) -> None:
        await self.done("operator", "users", "create", f"{name}@example.org", "--role", role, "--project", "default")
        words = ("keys", "create", "--user", f"{name}@example.org", "--project", "default")
        made = await self.done("operator", *words, "--scope", "relay", "--scope", "admin")
        self.keys[name] = made["secret"]


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(GatewaySettings(), tmp_path) as found:
        yield found


@pytest.fixture
def access(gateway: Running, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Access:
    return Access(gateway, monkeypatch, capsys)


async def test_a_person_applies_is_vetted_and_loses_access_again(access: Access, tmp_path: Path) -> None:
    for name, role in (("ada", "member"), ("rev", "reviewer"), ("second", "reviewer")):
        await access.person(name, role)
    words = ("apply", "--tier", "specialist", "--why", "red team", "--scope", "cyber.offensive", "--model", "mend")
    application = (await access.done("ada", *words, "--evidence", "https://example.org/ada"))["id"]
    refused = await access("rev", "review", application, "approve")
    assert refused.code == 1 and "documents that a reviewer has seen" in refused.err
    await access.done("rev", "users", "identify", "ada@example.org", "--note", "passport seen")
    await access.done("rev", "review", application, "approve", "--note", "fits")
    granted = await access.done("second", "review", application, "approve")
    assert granted["state"] == "approved" and len(granted["reviews"]) == 2
    assert (await access.done("ada", "me"))["tier"] == "specialist"
    shown = await access("ada", "probe", "--model", "mend", "--surface", "cli")
    assert shown.code == 0 and f"works      mend on cli: tier specialist by {granted['entitlement']}" in shown.out
    letter = tmp_path / "letter.pdf"
    letter.write_bytes(b"The owner agrees.")
    words = ("engagements", "open", "bank", "--project", "default", "--authority", str(letter), "--until", "30d")
    engagement = await access.done("operator", *words, "--domain", "Bank.example.org", "--network", "10.0.0.0/24")
    assert engagement["domains"] == ["bank.example.org"]
    assert engagement["id"] in (await access("ada", "engagements", "list")).out
    await access.done("rev", "revoke", engagement["id"], "--why", "over")
    await access.done("rev", "revoke", granted["entitlement"], "--why", "left")
    assert "revoked" in (await access("ada", "grants")).out
    assert (await access.done("ada", "me"))["tier"] == "default"


async def test_a_rollout_is_proposed_rehearsed_reviewed_and_probed(access: Access, tmp_path: Path) -> None:
    await access.person("rev", "reviewer")
    schedule = tmp_path / "schedule.json"
    schedule.write_text(json.dumps({"entries": [{"from": "2099-01-01", "surface": "cli"}]}))
    version = str(
        (await access.done("rev", "rollout", "propose", "mend", "--schedule", str(schedule), "--why", "x"))["version"]
    )
    assert "0 of 0 requests" in (await access("rev", "rollout", "rehearse", version, "--day", "2026-01-01")).out
    assert "Nobody reviews what is their own." in (await access("rev", "rollout", "review", version, "approve")).err
    await access.done("operator", "rollout", "review", version, "approve")
    shown = await access("rev", "probe")
    assert shown.code == 1 and "works not  mend on api: mend is not open to this request yet" in shown.out
    assert version in (await access("operator", "rollout", "show")).out


async def test_keys_and_people_are_looked_after(access: Access) -> None:
    await access.person("ada", "member")
    assert "There is no key" in (await access("nobody", "me")).err
    rotated = await access("ada", "keys", "list", "--json")
    rotated = await access("ada", "keys", "rotate", rotated.json[0]["id"], "--overlap", "0")
    assert rotated.code == 0 and (await access("ada", "me")).code == 2
    access.keys["ada"] = rotated.out.split()[-1]
    assert "ada@example.org, organisation default" in (await access("ada", "me")).out
    project = await access.done("operator", "projects", "create", "red", "--budget", "100", "--retention", "zero")
    changed = await access.done("operator", "projects", "change", "red", "--concurrent", "3", "--fallback", "a=b,c")
    limits = {"concurrent": 3, "budget": {"monthly_usd": 100.0}}
    assert changed["settings"] == {"limits": limits, "retention": "zero", "fallback": {"a": ["b", "c"]}}
    changed = await access.done("operator", "projects", "change", "red", "--no-limits")
    assert changed["settings"] == {"retention": "zero", "fallback": {"a": ["b", "c"]}}
    await access.done("operator", "projects", "add", "red", "ada@example.org")
    assert "ada@example.org" in (await access("operator", "projects", "members", "red")).out
    made = await access.done("ada", "keys", "create", "ci", "--project", "red", "--expires", "90d", "--concurrent", "1")
    await access.done("operator", "projects", "archive", project["id"])
    access.keys["ci"] = made["secret"]
    assert "The key is not known here" in (await access("ci", "me")).err
    await access.done("operator", "users", "deactivate", "ada@example.org")
    assert (await access("ada", "me")).code == 2


async def test_receipts_and_the_audit_are_verified_without_a_gateway(
    access: Access, gateway: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"model": "nothing", "messages": [{"role": "user", "content": "hi"}]}
    answer = await gateway.client.post("/v1/chat/completions", json=asked)
    receipt, keys, export = (tmp_path / name for name in ("receipt.json", "keys.json", "audit.ndjson"))
    assert (await access("operator", "receipt", answer.headers["x-request-id"], "-o", str(receipt))).code == 0
    assert (await access("", "public-keys", "-o", str(keys))).code == 0
    assert (await access("operator", "audit", "export", "-o", str(export))).code == 0
    monkeypatch.setenv("LATHE_GATEWAY_URL", "http://127.0.0.1:1")
    genuine = await access("", "verify", str(receipt), "--key", str(keys))
    assert genuine.code == 0 and "is genuine" in genuine.out and "refused (model_unknown)" in genuine.out
    receipt.write_text(receipt.read_text().replace("nothing", "another"))
    assert "has been changed" in (await access("", "verify", str(receipt), "--key", str(keys))).err
    whole = await access("", "audit", "verify", str(export), "--key", str(keys))
    assert whole.code == 0 and "nothing is wrong" in whole.out
    database = tmp_path / "gateway" / "gateway.sqlite"
    assert (await access("", "audit", "verify", "--database", f"sqlite:///{database}")).code == 0
    export.write_text(export.read_text().replace('\\"action\\":\\"bootstrap\\"', '\\"action\\":\\"bootstrop\\"'))
    assert (await access("", "audit", "verify", str(export), "--key", str(keys))).code == 1


def _closed() -> str:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{one.getsockname()[1]}"


REFUSALS: list[tuple[tuple[str, ...], int, str]] = [
    (("me", "--key", "lathe-wrong"), 2, "The key is not known here"),
    (("me", "--key", "a\nb"), 2, "holds characters that no key has"),
    (("me", "--url", "CLOSED"), 4, "There is no gateway at"),
    (("me", "--url", "ftp://x"), 2, "is no http or https address"),
    (("review", "app_x", "approve"), 1, "There is no such application that you can see."),
    (("users", "show", "nobody@example.org"), 2, "There is no user 'nobody@example.org'"),
    (("keys", "create", "x", "--expires", "soon"), 2, "'soon' is no time."),
    (("revoke", "key_x", "--why", "x"), 2, "lathe access keys revoke"),
    (("verify", "nowhere.json"), 2, "can't be read"),
    (("audit", "verify"), 2, "There is nothing to verify."),
]


@pytest.mark.parametrize(("words", "code", "sentence"), REFUSALS)
async def test_what_does_not_work_is_told_in_one_sentence(
    access: Access, words: tuple[str, ...], code: int, sentence: str
) -> None:
    ran = await access("operator", *(word.replace("CLOSED", _closed()) for word in words))
    assert (ran.code, ran.out) == (code, "") and sentence in ran.err and len(ran.err.splitlines()) == 1


async def test_a_probe_asks_every_replica(
    postgresql: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = GatewaySettings(database=postgresql.url(postgresql.new_database()))
    async with running(settings, tmp_path / "a") as first:
        access = Access(first, monkeypatch, capsys)
        async with running(settings, tmp_path / "b") as second:
            both = await access("operator", "probe")
            assert both.code == 0 and first.url in both.out and second.url in both.out
            made = await access.done("operator", "keys", "create", "x", "--machine", "--project", "default")
            access.keys["x"] = made["secret"]
            assert (await access("x", "probe", "--url", second.url)).code == 0
            await access.done("operator", "keys", "revoke", made["key"]["id"])
            await second.gateway.services.directory.refresh()
            assert (await access("x", "probe", "--url", second.url)).code == 2


async def test_a_decision_is_appealed_reversed_and_written_as_a_case(
    access: Access, gateway: Running, tmp_path: Path
) -> None:
    for name, role in (("ada", "member"), ("rev", "reviewer")):
        await access.person(name, role)
    services = gateway.gateway.services
    await services.directory.refresh()
    ada = services.directory.principal(key_digest(access.keys["ada"]))
    assert ada is not None
    decision, _ = await judge(services, ada, situation(DEVELOPS, targets=(Target("shop.example", "third"),)))
    assert decision in (await access("ada", "decisions")).out
    shown = await access("ada", "decisions", decision)
    assert f"lathe access appeal {decision}" in shown.out and "letters 0 to 9 of asked" in shown.out
    said = tmp_path / "said.txt"
    said.write_text("The shop is\x1b[2J mine.")
    made = await access("ada", "appeal", decision, "--file", str(said))
    assert "A person decides it by" in made.out
    appeal = (await access.done("rev", "appeals", "list"))[0]["id"]
    seen = await access("rev", "appeals", "show", appeal)
    assert "shop.example" in seen.out and "\x1b" not in seen.out
    assert (await access("ada", "appeals", "take", appeal)).code == 1
    await access.done("rev", "appeals", "take", appeal)
    words = ("appeals", "decide", appeal, "--reverse", "--reason", "The shop is theirs: seen in the register.")
    assert "whether policy, monitor or facts" in (await access("rev", *words)).err
    wrong = await access("rev", *words, "--fault", "facts", "--target", "shop.example")
    assert wrong.code == 2 and "is no target" in wrong.err
    ended = await access("rev", *words, "--fault", "facts", "--target", "shop.example=own")
    assert ended.code == 0 and "appeals case" in ended.out
    written = await access("rev", "appeals", "case", appeal, "-o", str(tmp_path / "cases"))
    assert Path(written.out.strip()).is_file()
    assert main(["guard", "policy", "test", "--cases", str(tmp_path / "cases")]) == 0
    told = await access("ada", "notices")
    assert "seen in the register" in told.out and "It was reversed." in (await access("ada", "decisions", decision)).out
    again = await access("ada", "appeal", decision, "--text", "Once more.")
    assert again.code == 1 and "is reversed already" in again.err
