"""The published OpenAPI document, and a gateway that is asked whatever it allows and much that it does not."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from serving import Models, Served, ask

from lathe.models.script import Step, Words

PLAN = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "4")),
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
LONGEST_S = 20.0
"""Past this a request counts as one that hangs; the slowest that is answered takes a fraction of it."""
MODELS = ("scripted-responses", "scripted-chat", "scripted-messages")


def operations(served: Served) -> list[Any]:
    schema = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
    return [found.ok() for found in schema.get_all_operations()]


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["allowed", "not allowed"])
def test_whatever_is_asked_is_answered_and_nothing_breaks(mode: Any, gateway: Served, models: Models) -> None:
    models.play(lambda request: Step(say=(Words("Hello"),)))
    wrong: list[str] = []

    def asked(case: Any, model: str) -> None:
        if isinstance(case.body, dict) and "model" in case.body and model:
            case.body["model"] = model
        began = time.monotonic()
        answer = case.call(headers={"authorization": f"Bearer {gateway.key}"}, timeout=LONGEST_S)
        took_s = time.monotonic() - began
        if answer.status_code >= 500 or took_s > LONGEST_S:
            said = f"{answer.status_code} in {took_s:.1f} s: {answer.text[:300]}"
            wrong.append(f"{case.as_curl_command()[:600]} -> {said}")

    for operation in operations(gateway):
        strategy = operation.as_strategy(generation_mode=mode)
        check = given(case=strategy, model=st.sampled_from(("", *MODELS)))(asked)
        with contextlib.suppress(Unsatisfiable):  # where nothing is asked for, nothing can be wrong
            PLAN(check)()
    assert not wrong, "\n".join(wrong)
    assert ask(gateway, "/v1/models").status == 200, "the key that was used is of no more use"
