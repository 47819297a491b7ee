"""Upstreams that fail and a replica that dies: nothing is charged twice or lost, and every stream says how it ended."""

from __future__ import annotations

from pathlib import Path

from gateway_chaos import Plan, chaos


def test_under_faults_and_kills_no_charge_is_lost_and_no_stream_ends_unsaid(tmp_path: Path) -> None:
    figures, wrong = chaos(tmp_path, Plan(seconds=20, clients=64, kill_every_s=7, seed=3, hurry=True))
    assert not wrong, figures
    assert figures["kills"] > 0 and figures["seen"]["complete"] > 20, figures
