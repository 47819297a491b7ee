"""Nothing of the person who runs the tests reaches a test: home, keys, settings and signals are the test's own."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import hypothesis
import pytest

# how quick a busy machine makes up examples says nothing of the code
hypothesis.settings.register_profile("suite", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("suite")

# `nohup make test &` leaves these ignored, and so would every Lathe that a test starts and then interrupts.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder for this test alone; returns it."""
    home = tmp_path_factory.mktemp("home")
    for name in list(os.environ):
        if name.startswith(("LATHE_", "OPENAI_", "ANTHROPIC_", "XDG_")) or name.endswith(("_KEY", "_TOKEN")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("LATHE_HOME", str(home / "lathe"))
    return home
