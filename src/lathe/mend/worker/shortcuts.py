"""Running a test without most of what pytest does around one, where that makes no difference to it.

The whole protocol costs more than many tests. A plain function whose fixtures are parameters alone is called; another
is set up, run and torn down without the hooks around it. Whether that is good enough is seen from the test's outcome on
the unchanged project, and what is not runs under the whole protocol.
"""

from __future__ import annotations

import inspect
import os
import unittest
from collections.abc import Callable
from typing import Any

import pytest

from lathe.mend.worker.state import Fresh

# marks by which pytest or a plugin treats a test in a way of its own
_SPECIAL = {"xfail", "skip", "skipif", "filterwarnings", "asyncio", "anyio", "trio", "timeout", "django_db", "flaky"}
_HOOKS = (
    "pytest_runtest_setup", "pytest_runtest_call", "pytest_runtest_teardown", "pytest_pyfunc_call",
    "pytest_runtest_protocol",
)  # fmt: skip
Short = Callable[[], None]


def shortcuts(items: list[pytest.Item], root: str) -> list[Short | None]:
    """Return for each item a short way to run it, which raises what the test raises, or None."""
    if not items or _has_own_hooks(items[0].config, root):
        return [None] * len(items)
    return [_shortcut(item, root) for item in items]


def _has_own_hooks(config: pytest.Config, root: str) -> bool:
    """Return whether the project takes part in how tests run, or in what a warning is."""
    if config.getini("filterwarnings"):
        return True
    for name in _HOOKS:
        for implementation in getattr(config.hook, name).get_hookimpls():
            if str(getattr(implementation.plugin, "__file__", "")).startswith(root + os.sep):
                return True
    return False


def _shortcut(item: pytest.Item, root: str) -> Short | None:
    if type(item) is not pytest.Function or any(mark.name in _SPECIAL for mark in item.iter_markers()):
        return None
    if inspect.iscoroutinefunction(item.function) or inspect.isasyncgenfunction(item.function):
        return None
    values = _plain_parameters(item, root)
    if values is None:
        return _set_up(item)
    fresh = Fresh(values)
    owner, name = item.cls, getattr(item, "originalname", None) or item.name
    if owner is None:
        function = item.obj
        return lambda: function(**fresh.get())
    return lambda: getattr(owner(), name)(**fresh.get())


def _plain_parameters(item: pytest.Function, root: str) -> dict[str, Any] | None:
    """Return the arguments where no fixture is behind any of them and none is used otherwise; else None.

    What a plugin sets up for every test, asked or not, is left out at first.
    """
    callspec: Any = getattr(item, "callspec", None)
    information = item._fixtureinfo
    asked = {*information.argnames, *(name for mark in item.iter_markers("usefixtures") for name in mark.args)}
    names = {name for name in item.fixturenames if name in asked or not _is_foreign(item, name, root)}
    if callspec is None:
        return {} if not names else None
    direct: dict[str, Any] = dict(getattr(callspec, "funcargs", {}))
    if not direct:
        for name, value in callspec.params.items():
            known = information.name2fixturedefs.get(name, ())
            if known and getattr(known[-1].func, "__name__", "") == "get_direct_param_fixture_func":
                direct[name] = value
    return direct if names <= direct.keys() else None


def _is_foreign(item: pytest.Function, name: str, root: str) -> bool:
    """Return whether a fixture is neither the project's nor pytest's own."""
    known = item._fixtureinfo.name2fixturedefs.get(name, ())
    if not known:
        return False
    code = getattr(known[-1].func, "__code__", None)
    module = str(getattr(known[-1].func, "__module__", "_pytest"))
    return code is not None and not code.co_filename.startswith(root + os.sep) and not module.startswith("_pytest")


def _set_up(item: pytest.Function) -> Short:
    callspec: Any = getattr(item, "callspec", None)
    fresh = Fresh(dict(callspec.params)) if callspec is not None else None
    state: Any = item.session._setupstate

    def run() -> None:
        if fresh is not None:
            callspec.params.update(fresh.get())
        item._initrequest()
        try:
            state.setup(item)
            item.runtest()
        finally:
            state.teardown_exact(None)

    return run


def is_skip(error: BaseException) -> bool:
    """Return whether a test raised `error` to be skipped."""
    return isinstance(error, (pytest.skip.Exception, unittest.SkipTest))
