from __future__ import annotations

from typing import Any

import pytest
from asking import HELLO, QUICK, WIRES, a_request, ask, ask_once
from loopback import always, loopback, whole

from lathe.models.catalogue import ModelInfo
from lathe.models.provider import Provider, WireName, builtin_provider, make_provider, open_client, resolve_model
from lathe.protocol.errors import ConfigError, ModelRejected

OPENAI = {"OPENAI_API_KEY": "sk-o"}
ANTHROPIC = {"ANTHROPIC_API_KEY": "sk-a"}
ROUTER = {"OPENROUTER_API_KEY": "sk-r"}
MINE = {"mine": Provider("mine", "http://localhost:9/v1", "chat", default_model="local-7b")}


@pytest.mark.parametrize(
    ("name", "provider", "environ", "expected"),
    [
        (None, None, OPENAI, ("openai", "gpt-6.1-sol")),
        (None, None, ANTHROPIC, ("anthropic", "claude-opus-5-5")),
        (None, None, OPENAI | ANTHROPIC, ("openai", "gpt-6.1-sol")),
        ("claude-sonnet-5-5", None, OPENAI | ANTHROPIC, ("anthropic", "claude-sonnet-5-5")),
        ("claude-sonnet-5-5", None, OPENAI | {"OPENAI_BASE_URL": "https://g/v1"}, ("openai", "claude-sonnet-5-5")),
        ("gpt-5.5", None, ANTHROPIC | OPENAI, ("openai", "gpt-5.5")),
        ("qwen/qwen3.8-flash", None, OPENAI | ROUTER, ("openrouter", "qwen/qwen3.8-flash")),
        ("openrouter/qwen/qwen3.8-flash", None, OPENAI | ROUTER, ("openrouter", "qwen/qwen3.8-flash")),
        ("ollama/qwen3:8b", None, {}, ("ollama", "qwen3:8b")),
        ("qwen3:8b", "ollama", {}, ("ollama", "qwen3:8b")),
        ("openai/gpt-oss-20b", "openrouter", {}, ("openrouter", "openai/gpt-oss-20b")),
        ("my/model", None, OPENAI, ("openai", "my/model")),
        ("x", None, {"OPENAI_BASE_URL": "http://localhost:1/v1"}, ("openai", "x")),
        ("x", None, {"ANTHROPIC_AUTH_TOKEN": "t"}, ("anthropic", "x")),
    ],
)
def test_the_environment_alone_is_enough(
    name: str | None, provider: str | None, environ: dict[str, str], expected: tuple[str, str]
) -> None:
    found = resolve_model(name, provider, {}, environ)
    assert (found.provider.name, found.model.name) == expected


def test_a_configured_provider_is_taken_by_name_or_where_no_key_is_set() -> None:
    assert resolve_model("mine/x", None, MINE, OPENAI).provider.name == "mine"
    assert resolve_model(None, None, MINE, {}).model.name == "local-7b"
    assert resolve_model(None, None, MINE, OPENAI).provider.name == "openai"


def test_a_configured_provider_hides_the_built_in_one() -> None:
    own = {"openai": make_provider("openai", {"base_url": "https://proxy.example/v1", "quirks": {"freeform": False}})}
    found = resolve_model("gpt-5.5", None, own, OPENAI).provider
    assert (found.base_url, found.wire, found.key_env) == ("https://proxy.example/v1", "responses", "OPENAI_API_KEY")
    assert found.quirks["freeform"] is False and found.quirks["system"] == "developer"


@pytest.mark.parametrize(
    ("name", "provider", "environ", "words"),
    [
        (None, None, {}, "no key is set"),
        ("gpt-5.5", None, {}, "OPENAI_API_KEY"),
        ("claude-sonnet-5-5", None, OPENAI, "ANTHROPIC_API_KEY"),
        ("x", "nobody", OPENAI, "'nobody'"),
        (None, None, {"OPENAI_BASE_URL": "http://localhost:1/v1"}, "No model is named"),
        (None, "ollama", {}, "No model is named"),
        ("x", "azure", {}, "base_url"),
    ],
)
def test_what_is_missing_is_said(name: str | None, provider: str | None, environ: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_model(name, provider, {}, environ)
    assert words in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "base_url"),
        ({"base_url": "http://x", "wire": "smoke"}, "wire"),
        ({"base_url": "http://x", "colour": 1}, "colour"),
        ({"base_url": "http://x", "headers": {"a": 1}}, "headers"),
    ],
)
def test_a_wrong_provider_is_named_with_its_field(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make_provider("mine", settings)


def test_the_environment_adjusts_built_in_providers() -> None:
    openai = builtin_provider("openai", {"OPENAI_BASE_URL": "http://h/v1"})
    assert openai is not None and (openai.base_url, openai.quirks["fallback"]) == ("http://h/v1", "chat")
    azure = builtin_provider("azure", {"AZURE_OPENAI_ENDPOINT": "https://me.openai.azure.com/"})
    assert azure is not None and azure.base_url == "https://me.openai.azure.com/openai/v1"
    token = builtin_provider("anthropic", {"ANTHROPIC_AUTH_TOKEN": "t"})
    assert token is not None and (token.key_env, token.quirks["bearer"]) == ("ANTHROPIC_AUTH_TOKEN", True)
    assert builtin_provider("nobody", {}) is None


def test_a_missing_key_is_told_before_anything_is_sent_except_at_home() -> None:
    away = Provider("p", "https://p.example/v1", key_env="P_KEY")
    with pytest.raises(ModelRejected) as caught:
        open_client(away, ModelInfo("m"), environ={"P_KEY": " "})
    assert "P_KEY" in caught.value.hint
    open_client(Provider("p", "http://127.0.0.1:1/v1", key_env="P_KEY"), ModelInfo("m"), environ={})


def test_a_header_that_wants_an_unset_variable_is_told() -> None:
    provider = Provider("p", "http://127.0.0.1:1/v1", headers={"api-key": "env:NOT_SET"})
    with pytest.raises(ConfigError, match="NOT_SET"):
        open_client(provider, ModelInfo("m"), environ={})


AUTH: list[tuple[WireName, dict[str, Any], dict[str, str | None]]] = [
    ("responses", {}, {"authorization": "Bearer k", "x-api-key": None}),
    ("chat", {}, {"authorization": "Bearer k"}),
    ("messages", {}, {"x-api-key": "k", "authorization": None, "anthropic-version": "2023-06-01"}),
    ("messages", {"quirks": {"bearer": True}}, {"x-api-key": None, "authorization": "Bearer k"}),
    ("chat", {"headers": {"Authorization": "Basic x", "X-Extra": "y"}}, {"authorization": "Basic x", "x-extra": "y"}),
]


@pytest.mark.parametrize(("wire", "fields", "expected"), AUTH)
async def test_the_key_goes_where_the_wire_wants_it(
    wire: WireName, fields: dict[str, Any], expected: dict[str, str | None]
) -> None:
    async with loopback(always(whole(HELLO[wire]))) as place:
        await ask_once(place.base_url, wire, key_env="K", environ={"K": "k"}, **fields)
    assert {name: place.requests[0].header(name) for name in expected} == expected


@pytest.mark.parametrize(
    ("wire", "base", "path"),
    [
        ("responses", "/v1", "/v1/responses?api-version=preview"),
        ("chat", "/api/v1/", "/api/v1/chat/completions?api-version=preview"),
        ("messages", "", "/v1/messages?api-version=preview"),
        ("messages", "/v1", "/v1/messages?api-version=preview"),
        ("messages", "/anthropic", "/anthropic/v1/messages?api-version=preview"),
    ],
)
async def test_the_path_and_the_query_are_the_providers(wire: WireName, base: str, path: str) -> None:
    async with loopback(always(whole(HELLO[wire]))) as place:
        url = place.base_url.removesuffix("/v1") + base
        await ask_once(url, wire, query={"api-version": "preview"})
    assert place.requests[0].line.split()[1] == path


@pytest.mark.parametrize("wire", WIRES)
async def test_a_client_goes_on_to_another_thread(wire: WireName) -> None:
    async with loopback(always(whole(HELLO[wire]))) as place:
        client = open_client(Provider("p", place.base_url, wire), ModelInfo("m"), environ={}, retry=QUICK)
        for _ in range(2):
            await ask(client, a_request())
        await client.aclose()
    assert place.requests[0].body == place.requests[1].body
