"""Safeguards: what a card asks of the gateway holds for every request, and what can't hold keeps it from starting."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from gateways import running, table, upstream

from lathe.cli.main import main
from lathe.gateway.directory import now_ms
from lathe.gateway.safeguards import Basis, Safeguards, safeguards_of, sealed, written
from lathe.gateway.settings import GatewaySettings, GuardTable, ModelTable, RouteTable
from lathe.models.script import Step, Words
from lathe.models.scripted import ScriptedServer
from lathe.protocol.errors import ConfigError

DAY = 86_400_000
BASIS = Basis("c" * 64, "t" * 64, {"run_1": "d" * 64}, {"cyber": "cannot_rule_out"})


def safeguards(**rest: Any) -> Safeguards:
    now = now_ms()
    given = {
        "model": "m",
        "surfaces": {"cli": "verified", "api": "verified"},
        "basis": BASIS,
        "issued": now,
        "expires": now + DAY,
        **rest,
    }
    return sealed(Safeguards(**given))


def saved(folder: Path, one: Safeguards) -> str:
    path = folder / f"{one.model}.safeguards.json"
    path.write_bytes(written(one))
    return str(path)


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer([Step(say=(Words("Well said."),))], repeat=True) as server:
        yield server


def settings(server: ScriptedServer, *files: str, **rest: Any) -> GatewaySettings:
    models = {"m": table("up", aliases=("mm",)), "other": table("up"), "third": table("up")}
    return GatewaySettings(
        upstreams={"up": upstream(server.base_url, "chat")},
        **{"models": models, "safeguards": files, "mend": False, **rest},
    )


def code_of(answer: Any) -> str:
    return str(answer.json()["error"]["lathe"]["code"])


def served(answer: Any) -> str:
    assert answer.status_code == 200, answer.text
    return str(answer.headers["lathe-served-model"])


async def test_tiers_and_surfaces_hold_for_every_request_and_are_told(scripted: ScriptedServer, tmp_path: Path) -> None:
    one = safeguards(surfaces={"cli": "verified", "api": "organisation"})
    async with running(settings(scripted, saved(tmp_path, one)), tmp_path) as gateway:
        refused = await gateway.ask("m")
        assert (refused.status_code, code_of(refused)) == (403, "model_needs_access")
        assert served(await gateway.ask("other")) == "other"
        await gateway.entitle("verified")
        refused = await gateway.ask("mm")
        assert code_of(refused) == "model_not_open" and "the tier verified on cli" in refused.text
        assert refused.headers["lathe-decision"] == "safeguards:m"
        listed = (await gateway.client.get("/v1/models/m")).json()["lathe"]
        assert listed["open"] is False
        assert listed["safeguards"]["digest"] == one.digest
        assert listed["safeguards"]["categories"] == {"cyber": "cannot_rule_out"}
        await gateway.entitle("organisation")
        assert served(await gateway.ask("m")) == "m"


async def test_a_model_that_is_open_nowhere_is_closed_to_all(scripted: ScriptedServer, tmp_path: Path) -> None:
    async with running(settings(scripted, saved(tmp_path, safeguards(surfaces={}))), tmp_path) as gateway:
        assert code_of(await gateway.ask("m")) == "model_needs_access"
        await gateway.entitle("specialist")
        assert code_of(await gateway.ask("m")) == "model_not_open"


async def test_a_project_that_keeps_too_little_and_a_file_that_ends_are_refused(
    scripted: ScriptedServer, tmp_path: Path
) -> None:
    held = safeguards(surfaces={"api": "default"}, retention="metadata")
    async with running(settings(scripted, saved(tmp_path, held)), tmp_path) as gateway:
        assert served(await gateway.ask("m")) == "m"
        await gateway.set_project(retention="zero")
        assert code_of(await gateway.ask("m")) == "model_needs_records"
        asked = await gateway.client.post("/v1/access/check", json={"model": "m"})
        assert asked.json()["code"] == "model_needs_records"  # what would be decided is what is decided
        await gateway.set_project()
        directory: Any = gateway.gateway.services.directory
        policy = directory.policy
        policy._safe["m"] = (msgspec.structs.replace(held, expires=now_ms()), policy._safe["m"][1])
        assert code_of(await gateway.ask("m")) == "safeguards_expired"


@pytest.mark.parametrize(
    ("rest", "instead"),
    [
        ({"fallback": "none"}, ""),
        ({"fallback": "named", "fallbacks": ("third",)}, "third"),
        ({"fallback": "any"}, "other"),
    ],
)
async def test_only_what_the_safeguards_allow_is_served_in_place_of_the_model(
    rest: dict[str, Any], instead: str, scripted: ScriptedServer, tmp_path: Path
) -> None:
    one = safeguards(surfaces={"cli": "default"}, **rest)
    async with running(settings(scripted, saved(tmp_path, one)), tmp_path) as gateway:
        await gateway.set_project(fallback={"*": ["other", "third"]})
        answer = await gateway.ask("m")
        if instead:
            assert served(answer) == instead
        else:
            assert code_of(answer) == "model_not_open"


async def test_a_model_that_may_not_stand_in_is_never_a_fallback(scripted: ScriptedServer, tmp_path: Path) -> None:
    files = [
        saved(tmp_path, safeguards(surfaces={"cli": "default"})),
        saved(tmp_path, safeguards(model="other", surfaces={"api": "default"}, stands_in=False)),
    ]
    async with running(settings(scripted, *files), tmp_path) as gateway:
        await gateway.set_project(fallback={"m": ["other"]})
        assert code_of(await gateway.ask("m")) == "model_not_open"
        assert served(await gateway.ask("other")) == "other"


async def test_a_word_of_a_scope_counts_from_its_tier_on(scripted: ScriptedServer, tmp_path: Path) -> None:
    one = safeguards(surfaces={"api": "default"}, scopes={"cyber.offensive": "specialist"})
    async with running(settings(scripted, saved(tmp_path, one)), tmp_path) as gateway:
        await gateway.entitle("verified", "cyber.defensive", "cyber.offensive")
        relay, [key] = gateway.gateway.relay, gateway.rows("select id from keys limit 1")
        who = await relay.principal({b"authorization": f"Bearer {gateway.key}".encode()})
        assert who.key == key[0]
        policy = gateway.gateway.services.directory.policy
        scopes = {model: policy.scope(relay.decide(who, relay.asked_of(who, {}, model))) for model in ("m", "other")}
        assert scopes == {"m": ("cyber.defensive",), "other": ("cyber.defensive", "cyber.offensive")}


CONFLICTS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "unknown model": ({"model": "n"}, {}, "'n' are of a model that is not served here; there is m, other, third"),
    "alias": ({"model": "mm"}, {}, "it is another name of 'm'"),
    "guard off": ({"monitors": ("acts",)}, {"guard": GuardTable(enabled=False)}, "guard.enabled = false"),
    "monitor": ({"monitors": ("telepathy",)}, {}, "need the monitor 'telepathy', which this gateway does not run"),
    "agent's monitor": ({"monitors": ("misalignment",)}, {}, "need the monitor 'misalignment'"),
    "fallback": ({"fallback": "named", "fallbacks": ("gone",)}, {}, "name 'gone' as what may be served in its place"),
    "itself": ({"fallback": "named", "fallbacks": ("m",)}, {}, "which is no other model here"),
    "retention": ({"retention": "metadata"}, {"retention": "zero"}, 'need retention = "metadata" at least'),
    "scope": ({"scope": ("cyber.magic",)}, {}, "the scope 'cyber.magic', which the guard's taxonomy does not have"),
    "another way": (
        {},
        {"models": {"m": table("up"), "n": ModelTable(routes=(RouteTable("up", "m"),))}},
        "would not hold: 'n' leads to the same model, and has no safeguards",
    ),
    "over": ({"expires": 1}, {}, "its time is over"),
    "future": ({"issued": now_ms() + 3 * DAY, "expires": now_ms() + 9 * DAY}, {}, "it is from the future"),
}


@pytest.mark.parametrize("name", CONFLICTS)
def test_what_can_not_hold_keeps_the_gateway_from_starting(name: str, tmp_path: Path) -> None:
    asked, rest, sentence = CONFLICTS[name]
    server: Any = type("NoServer", (), {"base_url": "http://127.0.0.1:9/v1"})
    with pytest.raises(ConfigError) as raised:
        safeguards_of(settings(server, saved(tmp_path, safeguards(**asked)), **rest), now=now_ms())
    assert sentence in str(raised.value)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda path: path.unlink(), "can't be read"),
        (lambda path: path.write_bytes(path.read_bytes()[:-40]), "not what it should be"),
        (lambda path: path.write_text(path.read_text().replace('"acts"', '"topical"')), "was changed after"),
        (lambda path: path.write_text(path.read_text().replace('"stands_in"', '"stand_in"')), "not what it should be"),
        (lambda path: path.write_text("{}"), "not what it should be"),
    ],
)
def test_a_damaged_file_keeps_the_gateway_from_starting(
    spoil: Any, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LATHE_HOME", str(tmp_path))
    path = Path(saved(tmp_path, safeguards(model="mend", surfaces={"cli": "default"}, monitors=("acts",))))
    assert main(["serve", "--check", "--safeguards", str(path)]) == 0
    assert "held to safeguards: mend" in capsys.readouterr().out
    spoil(path)
    for command in (["serve", "--check"], ["serve", "--listen", "127.0.0.1:0"]):
        assert main([*command, "--safeguards", str(path)]) == 2
        assert sentence in capsys.readouterr().err
    assert not (tmp_path / "gateway" / "gateway.sqlite").exists()


def test_two_files_for_one_model_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    files = [saved(tmp_path, safeguards()), saved(tmp_path / "a", safeguards())]
    server: Any = type("NoServer", (), {"base_url": "http://127.0.0.1:9/v1"})
    with pytest.raises(ConfigError, match="has safeguards already"):
        safeguards_of(settings(server, *files), now=now_ms())
