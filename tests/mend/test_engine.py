"""What the engine does with suites that are not simple, on real projects."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from seeded import MakeProject

from lathe.mend.confine import confined
from lathe.mend.report import RepairReport
from lathe.mend.search import Options, Search, repair
from lathe.mend.workspace import scratch_copy
from lathe.protocol.errors import UsageError

QUICK = Options(seconds=40, jobs=2)


def _repaired(project: Path) -> RepairReport:
    report = repair(project, QUICK)
    assert report.status == "repaired", report
    return report


def test_a_project_with_doctests_alone_is_repaired(make_project: MakeProject) -> None:
    module = """
        def area(width, height):
            '''Return the area.

            >>> area(2, 3)
            6
            '''
            return width + height
        """
    report = _repaired(make_project({"area.py": module}))
    assert [change.after for change in report.changes] == ["return width * height"]


def test_a_test_that_fails_at_times_is_named_and_left_out(make_project: MakeProject) -> None:
    project = make_project(
        {
            "calc.py": "def double(n):\n    return n * 3\n",
            "test_calc.py": """
                from pathlib import Path
                import calc

                def test_double():
                    assert calc.double(4) == 8

                def test_only_the_second_time():
                    mark = Path("/tmp" if not Path.home().exists() else Path.home()) / "was-here"
                    seen = mark.exists()
                    mark.touch()
                    assert calc.double(0) == 0 and seen
                """,
        }
    )
    report = _repaired(project)
    assert [change.after for change in report.changes] == ["return n * 2"]
    assert any("test_only_the_second_time" in note and "another" in note for note in report.notes)


def test_tests_that_share_objects_run_in_their_order(make_project: MakeProject) -> None:
    project = make_project(
        {
            "chain.py": """
                def length(node):
                    count = 1
                    while node is not None:
                        count += 1
                        node = node.next
                    return count
                """,
            "test_chain.py": """
                from chain import length

                class Node:
                    next = None

                    def __init__(self):
                        self.links = []

                first, second = Node(), Node()

                def test_one():
                    assert length(first) == 1

                def test_none():
                    assert length(None) == 0

                def test_two():
                    first.next = second
                    assert length(first) == 2

                def test_two_still():
                    assert first.next is second and length(first) == 2
                """,
        }
    )
    report = _repaired(project)
    assert [change.after for change in report.changes] in (["count = 0"], ["return count - 1"])


def test_sources_that_a_test_overwrites_are_put_back(make_project: MakeProject) -> None:
    project = make_project(
        {
            "calc.py": "def double(n):\n    return n * 3\n",
            "test_calc.py": """
                from pathlib import Path
                import calc

                def test_writes():
                    assert not Path("left-behind.txt").exists()
                    Path("left-behind.txt").write_text("x")
                    Path(calc.__file__).write_text("overwritten")

                def test_double():
                    assert calc.double(4) == 8
                """,
        }
    )
    report = repair(project, Options(seconds=40, jobs=1))
    assert report.status == "repaired", report
    assert "n * 2" in report.diff


def test_a_candidate_that_empties_what_tests_read_does_not_spoil_those_after_it(make_project: MakeProject) -> None:
    project = make_project(
        {
            "first.txt": "5\n3\n9\n4\n",
            "second.txt": "7\n8\n2\n6\n",
            "reader.py": """
                def numbers(path):
                    fresh = False
                    with open(path, "w+" if fresh else "r") as file:
                        return [int(line) for line in file]

                def smallest(path):
                    found = numbers(path)
                    return found[0]
                """,
            "test_reader.py": """
                from reader import numbers, smallest

                def test_numbers():
                    assert numbers("first.txt") == [5, 3, 9, 4]

                def test_first():
                    assert smallest("first.txt") == 3

                def test_second():
                    assert smallest("second.txt") == 2
                """,
        }
    )
    report = repair(project, Options(seconds=60, jobs=1))
    assert report.status == "repaired", report
    assert report.changes[0].after.strip() in ("found = sorted(numbers(path))", "return min(found)")
    assert (project / "first.txt").read_text() == "5\n3\n9\n4\n"


def test_damage_is_what_the_unchanged_tests_do_not_do(make_project: MakeProject) -> None:
    with scratch_copy(make_project({"a.txt": "a", "logs/b.txt": "b", "out/c.txt": "c"})) as workspace:
        root = workspace.root
        (root / "logs/b.txt").write_text("told by a test")
        (root / "out/new.txt").write_text("made by a test")
        workspace.restore_after_tests()
        assert (root / "logs/b.txt").read_text() == "b"
        assert not (root / "out/new.txt").exists()
        assert not workspace.undo_damage()
        (root / "logs/b.txt").write_text("again")
        (root / "out/other.txt").write_text("a name of the day")
        assert not workspace.undo_damage()
        (root / "a.txt").write_text("")
        (root / "out/c.txt").unlink()
        (root / "stray.txt").write_text("x")
        assert workspace.undo_damage()
        assert ((root / "a.txt").read_text(), (root / "out/c.txt").read_text()) == ("a", "c")
        assert not (root / "stray.txt").exists()
        assert (root / "logs/b.txt").read_text() == "again"


def test_a_repair_that_makes_a_test_end_late_is_given_the_time(make_project: MakeProject) -> None:
    project = make_project(
        {
            "count.py": """
                def count(n):
                    total = 0
                    while n > 0:
                        total += 1
                        n += 1
                    return total
                """,
            "test_count.py": """
                from count import count

                def test_nothing():
                    assert count(0) == 0

                def test_one():
                    assert count(1) == 1

                def test_many():
                    assert count(4_000_000) == 4_000_000
                """,
        }
    )
    report = _repaired(project)
    assert [change.after for change in report.changes] in (["n -= 1"], ["n += -1"])


def test_tests_reach_no_network_and_write_only_the_copy(make_project: MakeProject, tmp_path: Path) -> None:
    with scratch_copy(make_project({"a.py": ""})) as workspace:
        if not confined(workspace, "/usr/bin/python3"):
            pytest.skip("bubblewrap does not work here")
    (tmp_path / "outside.txt").write_text("mine")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        project = make_project(
            {
                "calc.py": "def double(n):\n    return n * 3\n",
                "test_calc.py": f"""
                    import socket
                    from pathlib import Path
                    import calc
                    import pytest

                    def test_outside():
                        try:
                            Path({str(tmp_path / "outside.txt")!r}).write_text("theirs")
                        except OSError:
                            pass
                        with pytest.raises(OSError):
                            socket.create_connection(("127.0.0.1", {port}), timeout=2)
                        Path("inside.txt").write_text("fine")

                    def test_double():
                        assert calc.double(4) == 8
                    """,
            }
        )
        assert _repaired(project).before.passed == 1
    assert (tmp_path / "outside.txt").read_text() == "mine"


def test_a_test_that_only_takes_long_is_not_taken_for_one_that_never_ends(make_project: MakeProject) -> None:
    project = make_project(
        {
            "calc.py": """
                def double(n):
                    return n * 3


                def count(n):
                    total = 0
                    for _ in range(n):
                        total += 1
                    return total
                """,
            "test_calc.py": """
                import calc

                def test_double():
                    assert calc.double(4) == 8

                def test_count():
                    assert calc.count(1_500_000) == 1_500_000
                """,
        }
    )
    report = _repaired(project)
    assert [change.after for change in report.changes] == ["return n * 2"]
    assert (report.before.failed, report.notes) == (1, ())


def test_tests_that_stop_the_clock_do_not_stop_the_engines(make_project: MakeProject) -> None:
    project = make_project(
        {
            "calc.py": "def double(n):\n    return n * 3\n",
            "conftest.py": """
                import time

                import pytest

                @pytest.fixture(autouse=True)
                def stopped(monkeypatch):
                    for name in ("monotonic", "time", "perf_counter", "process_time"):
                        monkeypatch.setattr(time, name, lambda: 0.0)
                """,
            "test_calc.py": "import calc\n\ndef test_double():\n    assert calc.double(4) == 8\n",
        }
    )
    assert [change.after for change in _repaired(project).changes] == ["return n * 2"]


def test_objects_that_tests_share_do_not_cost_the_whole_suite_for_each_candidate(make_project: MakeProject) -> None:
    project = make_project(
        {
            "calc.py": """
                class Box:
                    def __init__(self, size):
                        self.size = size

                    def double(self):
                        return self.size * 3
                """,
            "test_calc.py": """
                from calc import Box

                BOX = Box(4)

                def test_size():
                    assert BOX.size == 4

                def test_double():
                    assert BOX.double() == 8
                """,
        }
    )
    assert [change.after for change in _repaired(project).changes] == ["return self.size * 2"]


def test_an_environment_behind_a_link_is_used(
    make_project: MakeProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = tmp_path / "linked"
    link.symlink_to(sys.prefix)
    monkeypatch.setenv("VIRTUAL_ENV", str(link))
    project = make_project(
        {
            "calc.py": "def double(n):\n    return n * 3\n",
            "test_calc.py": "import calc\n\ndef test_double():\n    assert calc.double(4) == 8\n",
        }
    )
    assert [change.after for change in _repaired(project).changes] == ["return n * 2"]


SLOW = """
    import time

    import calc
    import pytest

    def test_double():
        assert calc.double(4) == {wanted}

    @pytest.mark.parametrize("number", range(40))
    def test_slowly(number):
        time.sleep(0.5)
    """


def test_of_a_suite_that_takes_long_what_there_was_time_for_is_used(make_project: MakeProject) -> None:
    project = make_project({"calc.py": "def double(n):\n    return n * 3\n", "test_calc.py": SLOW.format(wanted=8)})
    report = repair(project, Options(seconds=12, jobs=2))
    assert (report.status, [change.after for change in report.changes]) == ("repaired", ["return n * 2"])
    assert any("not run" in note and "test_slowly" in note for note in report.notes)
    assert report.seconds < 30


def test_a_suite_that_takes_long_and_has_not_failed_by_then_is_said_in_a_sentence(make_project: MakeProject) -> None:
    project = make_project({"calc.py": "def double(n):\n    return n * 2\n", "test_calc.py": SLOW.format(wanted=8)})
    with pytest.raises(UsageError, match="No test failed among the"):
        repair(project, Options(seconds=12, jobs=2))


def test_a_loop_without_lines_of_its_own_still_has_a_place(make_project: MakeProject) -> None:
    project = make_project(
        {
            "calc.py": """
                def wait(ready):
                    while not ready():
                        pass
                    return True

                def double(n):
                    return n * 3
                """,
            "test_calc.py": """
                import calc

                def test_double():
                    assert calc.double(4) == 8

                def test_wait():
                    calc.wait.__code__ = calc.wait.__code__.replace(co_linetable=b"")
                    calc.wait(lambda: False)
                """,
        }
    )
    report = repair(project, Options(seconds=5, jobs=2))
    assert (report.status, report.before.failed) == ("not_repaired", 2)
    assert any("did not end in time" in note for note in report.notes)


def test_a_test_that_only_fresh_runs_show_to_be_flaky_is_named_and_left_out(
    make_project: MakeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(
        {
            "calc.py": "def double(n):\n    return n * 3\n",
            "test_calc.py": """
                import calc

                def test_double():
                    assert calc.double(4) == 8

                class TestOther:
                    def test_weather(self):
                        assert True
                """,
        }
    )
    real, runs = Search._fresh_failures, []

    def fresh(self: Search, last: list[Any]) -> set[str] | None:
        runs.append(real(self, last))
        return {"test_calc.py::TestOther::test_weather"} if len(runs) == 1 else runs[-1]

    monkeypatch.setattr(Search, "_fresh_failures", fresh)
    report = _repaired(project)
    assert (runs, report.confirmed) == ([set()] * 4, True)
    assert any("pass at another: test_calc.py::TestOther::test_weather" in note for note in report.notes)
