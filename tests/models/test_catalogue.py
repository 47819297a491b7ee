from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from lathe.models import catalogue
from lathe.models.catalogue import EFFORTS, ModelInfo, Price, cost, effort_for, find_model, find_provider, quirks_of
from lathe.models.provider import make_provider
from lathe.protocol.errors import ConfigError
from lathe.protocol.usage import Usage

TEXT = Path(catalogue.__file__).with_name("catalogue.toml").read_text("utf-8")
WHOLE = tomllib.loads(TEXT)


@pytest.mark.parametrize("name", WHOLE["models"])
def test_every_entry_is_found_by_its_name_and_makes_sense(name: str) -> None:
    info = find_model(name)
    assert info.known and info.name == name == name.lower()
    assert {key: value for key, value in WHOLE["models"][name].items() if key == "context_window"} in (
        {}, {"context_window": info.context_window},
    )  # fmt: skip
    quirks_of(info.quirks)
    assert set(info.efforts) <= set(EFFORTS)
    assert info.context_window >= (info.max_output_tokens or 0)
    assert (info.long_from is None) == (info.long_price is None)
    for price in (info.price, info.long_price):
        if price is not None:
            assert 0 < price.input <= price.output
            assert price.cached_input is None or price.cached_input < price.input


@pytest.mark.parametrize("name", WHOLE["providers"])
def test_every_built_in_provider_is_whole(name: str) -> None:
    assert find_provider(name) == WHOLE["providers"][name]
    provider = make_provider(name, {"base_url": "https://x.example"})
    quirks_of(provider.quirks)


def test_no_entry_stands_twice() -> None:
    heads = re.findall(r"^\[.+\]$", TEXT, re.MULTILINE)
    assert len(heads) == len(set(heads)) == len(WHOLE["models"]) + len(WHOLE["providers"])


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
        ("gpt-5.5-2026-04-23", "gpt-5.5"),
        ("anthropic/claude-opus-5-5", "claude-opus-5-5"),
        ("openai/gpt-6.1-sol", "gpt-6.1-sol"),
        ("qwen/qwen3.8-flash:free", "qwen/qwen3.8-flash"),
        ("GPT-6-Sol", "gpt-6-sol"),
    ],
)
def test_a_date_a_vendor_and_a_variant_do_not_hide_a_model(name: str, like: str) -> None:
    found, model = find_model(name), find_model(like)
    assert found.name == name
    assert (found.context_window, found.price, found.quirks) == (model.context_window, model.price, model.quirks)


def test_a_family_lends_limits_but_no_price() -> None:
    found, family = find_model("gpt-5.2-something"), find_model("gpt-5.2")
    assert (found.known, found.context_window) == (True, family.context_window)
    assert family.price is not None and found.price is None and found.long_price is None


@pytest.mark.parametrize("name", ["mystery-9b", "", "a/b/c", '"]\n[x', "gpt", "claude"])
def test_an_unknown_model_gets_sane_limits(name: str) -> None:
    info = find_model(name)
    assert (info.known, info.context_window, info.price) == (False, 128_000, None)


def test_a_person_may_describe_a_model_or_mend_an_entry() -> None:
    own = {"my-model": {"context_window": 32_768, "quirks": {"images": False}}, "gpt-5": {"context_window": 100_000}}
    mine, mended = find_model("my-model", own), find_model("gpt-5", own)
    assert (mine.known, mine.context_window) == (True, 32_768)
    assert (mended.context_window, mended.price) == (100_000, find_model("gpt-5").price)


def test_a_wrong_entry_is_named() -> None:
    with pytest.raises(ConfigError, match=r"'x'.*context"):
        find_model("x", {"x": {"context_windwo": 1}})
    with pytest.raises(ConfigError, match="thinking"):
        quirks_of({"thinking": "hard"})


@pytest.mark.parametrize(
    ("wish", "efforts", "sent"),
    [
        ("high", ("low", "high"), "high"),
        ("xhigh", ("low", "medium", "high"), "high"),
        ("minimal", ("low", "high"), "low"),
        ("medium", ("low", "high"), "high"),
        ("none", (), "none"),
        ("weird", ("low",), "weird"),
        (None, ("low",), None),
    ],
)
def test_an_effort_becomes_the_nearest_that_the_model_takes(
    wish: str | None, efforts: tuple[str, ...], sent: str | None
) -> None:
    assert effort_for(wish, ModelInfo("m", efforts=efforts)) == sent


def test_the_cost_counts_each_kind_of_token_once() -> None:
    price = Price(input=10.0, output=100.0, cached_input=1.0, cache_write=12.0)
    info = ModelInfo("m", price=price, long_from=1000, long_price=Price(input=20.0, output=200.0))
    usage = Usage(input_tokens=1000, cached_input_tokens=600, output_tokens=10, cache_write_tokens=100)
    assert cost(usage, info) == pytest.approx((300 * 10 + 600 * 1 + 100 * 12 + 10 * 100) / 1e6)
    longer = Usage(input_tokens=1001, cached_input_tokens=600, output_tokens=10)
    assert cost(longer, info) == pytest.approx((1001 * 20 + 10 * 200) / 1e6)
    assert cost(usage, ModelInfo("m")) is None
