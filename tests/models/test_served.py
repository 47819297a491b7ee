from __future__ import annotations

import pytest

from lathe.models.served import same_model


@pytest.mark.parametrize(
    ("requested", "served", "same"),
    [
        ("gpt-5.3-codex", "gpt-5.3-codex", True),
        ("gpt-5.3-codex", "gpt-5.3-codex-2026-02-05", True),
        ("claude-sonnet-4-5", "claude-sonnet-4-5-20250929", True),
        ("claude-sonnet-4-5-latest", "claude-sonnet-4-5-20250929", True),
        ("openai/gpt-5", "gpt-5", True),
        ("claude-opus-4-1", "us.anthropic.claude-opus-4-1-20250805-v1:0", True),
        ("any", "", True),
        ("gpt-5.3-codex", "gpt-5.2", False),
        ("gpt-5", "gpt-5.2", False),
        ("gpt-5", "gpt-5-mini", False),
        ("gpt-5-mini", "gpt-5", False),
        ("gpt-4o-2024-05-13", "gpt-4o-2024-08-06", False),
    ],
)
def test_one_model_has_several_names(requested: str, served: str, same: bool) -> None:
    assert same_model(requested, served) is same
