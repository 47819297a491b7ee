"""The worker's parts by themselves: exchanging code, putting state back."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from lathe.mend.source import SourceFile
from lathe.mend.worker.state import State
from lathe.mend.worker.swap import Candidate, Part, Programs

TEXT = """
import functools



class Node:
    def __init__(self, name):
        self.name = name
        self.next = None


FIRST, SECOND = Node("first"), Node("second")
FIRST.next = SECOND
SEEN = []
TIMES = 0


def loud(function):
    @functools.wraps(function)
    def wrapper(*arguments):
        return str(function(*arguments)).upper()

    return wrapper


@loud
def greet(name):
    return "good bye " + name


def steps(count, step=2):
    return list(range(0, count, step))


class Base:
    def size(self):
        return 1


class Box(Base):
    __secret = 5

    def size(self):
        return super().size() - self.__secret

    def sizes(self, times=2):
        return [0] * times

    if True:
        def twice(self):
            return [self.size() for _ in range(3)]


@functools.lru_cache
def cached(n):
    SEEN.append(n)
    return n
"""

Make = Callable[[str, str], Candidate]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    (tmp_path / "shapes_of_code.py").write_text(TEXT)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("shapes_of_code")
    del sys.modules["shapes_of_code"]


@pytest.fixture
def make(module: ModuleType, tmp_path: Path) -> Make:
    source = SourceFile.read(tmp_path, "shapes_of_code.py")
    programs = Programs(str(tmp_path))

    def candidate(old: str, new: str) -> Candidate:
        assert TEXT.count(old) == 1
        start = TEXT.index(old)
        end = start + len(old)
        return programs.candidate([Part(source.path, source.unit(start, end), [(start, end, new)])])

    return candidate


def test_a_decorated_function_is_exchanged_behind_its_decorator(module: ModuleType, make: Make) -> None:
    before = make("good bye", "hello").install()
    assert module.greet("ada") == "HELLO ADA"
    for function, body in before:
        body.put_into(function)
    assert module.greet("ada") == "GOOD BYE ADA"


def test_a_default_is_exchanged_without_a_new_import(module: ModuleType, make: Make) -> None:
    candidate = make("step=2", "step=1 + 0")
    assert not candidate.overlay
    candidate.install()
    assert module.steps(3) == [0, 1, 2]


def test_a_default_of_a_method_is_exchanged_too(module: ModuleType, make: Make) -> None:
    candidate = make("self, times=2", "self, times=3")
    assert not candidate.overlay
    candidate.install()
    assert module.Box().sizes() == [0, 0, 0]


def test_a_method_keeps_its_super_and_its_private_names(module: ModuleType, make: Make) -> None:
    make("super().size() - self.__secret", "super().size() + self.__secret").install()
    assert module.Box().size() == 6


def test_a_method_under_a_condition_is_exchanged_too(module: ModuleType, make: Make) -> None:
    make("range(3)", "range(2)").install()
    assert len(module.Box().twice()) == 2


def test_what_is_evaluated_at_import_has_to_be_imported_anew(make: Make) -> None:
    assert make("__secret = 5", "__secret = 6").overlay
    assert make("TIMES = 0", "TIMES = 1").overlay


def test_equal_programs_are_the_same_and_others_are_not(make: Make) -> None:
    plain, spaced, other = make("range(3)", "range( 3 )"), make("range(3)", "range((3))"), make("range(3)", "range(4)")
    assert plain.identity == spaced.identity != other.identity
    assert make("step=2", "step=3").identity != make("step=2", "step=4").identity


def test_what_is_no_python_is_refused(make: Make) -> None:
    with pytest.raises(SyntaxError):
        make("range(3)", "range(3")


def test_state_is_put_back_and_objects_stay_the_same(module: ModuleType, tmp_path: Path) -> None:
    state = State(str(tmp_path), Programs(str(tmp_path)).functions())
    seen, first, second = module.SEEN, module.FIRST, module.SECOND
    module.cached(1)
    module.TIMES += 1
    module.EXTRA = "new"
    first.next, second.next = None, first
    for _ in range(1000):  # values that are slow to look through are looked at now and then
        state.restore()
    assert (module.SEEN is seen, seen, module.TIMES) == (True, [], 0)
    assert not hasattr(module, "EXTRA")
    assert first.next is second
    assert second.next is None
    module.cached(1)
    assert seen == [1], "a memory of results is emptied"


def test_modules_whose_tests_share_objects_are_known(module: ModuleType, tmp_path: Path) -> None:
    state = State(str(tmp_path), ())
    assert state.holders() == {str(tmp_path / "shapes_of_code.py")}
