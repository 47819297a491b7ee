"""What cannot be searched ends in one clear sentence."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from seeded import MakeProject

from lathe.cli.mend import main
from lathe.mend import workspace
from lathe.mend.search import Options, repair
from lathe.protocol.errors import LatheError, TurnError, UsageError

GREEN = "def test_it():\n    assert True\n"


def _sentence(project: Path, *tests: str, seconds: float = 20) -> str:
    with pytest.raises(LatheError) as caught:
        repair(project, Options(tests=tests, seconds=seconds, jobs=1))
    assert isinstance(caught.value, UsageError | TurnError)
    assert "Traceback" not in str(caught.value)
    assert "lathe-mend-" not in str(caught.value), "the scratch folder means nothing to the person"
    return caught.value.message


def test_a_project_without_tests(make_project: MakeProject) -> None:
    assert _sentence(make_project({"a.py": "x = 1\n"})).startswith("There are no tests here")


def test_tests_that_do_not_exist(make_project: MakeProject) -> None:
    assert "nowhere.py" in _sentence(make_project({"test_a.py": GREEN}), "nowhere.py")


def test_a_test_module_that_cannot_be_imported(make_project: MakeProject) -> None:
    project = make_project({"test_a.py": "import no_such_module\n\n\ndef test_a():\n    pass\n"})
    said = _sentence(project)
    assert "test_a.py cannot be imported" in said
    assert "No module named 'no_such_module'" in said


def test_a_conftest_that_cannot_be_imported(make_project: MakeProject) -> None:
    said = _sentence(make_project({"conftest.py": "import no_such_module\n", "test_a.py": GREEN}))
    assert "no_such_module" in said


def test_a_syntax_error_in_the_target(make_project: MakeProject) -> None:
    project = make_project({"calc.py": "def f(:\n    pass\n", "test_a.py": "import calc\n\n\n" + GREEN})
    assert _sentence(project).startswith("calc.py has a syntax error in line 1")


def test_a_suite_that_ends_the_process_while_it_is_imported(make_project: MakeProject) -> None:
    assert "ended by itself" in _sentence(make_project({"test_a.py": "import os\nos._exit(3)\n"}))


def test_a_suite_that_hangs_while_it_is_imported(make_project: MakeProject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lathe.mend.search.COLLECT_S", 1.0)
    project = make_project({"test_a.py": "import threading\nthreading.Event().wait()\n"})
    assert "could not be collected" in _sentence(project, seconds=1)


def test_no_interpreter_with_pytest(make_project: MakeProject, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "python3").write_text("#!/bin/sh\nexit 1\n")
    (bare / "python3").chmod(0o755)
    monkeypatch.setenv("PATH", str(bare))
    monkeypatch.setenv("VIRTUAL_ENV", "")
    monkeypatch.setattr(sys, "executable", str(bare / "python3"))
    assert _sentence(make_project({"test_a.py": GREEN}, git=False)) == (
        "No Python interpreter of this project has pytest."
    )


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    assert "is not a folder" in _sentence(tmp_path / "nothing")


def test_a_project_that_is_too_large_for_a_copy(make_project: MakeProject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workspace, "MAX_BYTES", 10)
    assert "too much for a scratch copy" in _sentence(make_project({"test_a.py": GREEN}))


def test_a_link_out_of_the_project_is_not_followed(make_project: MakeProject, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    project = make_project(
        {"test_a.py": "from pathlib import Path\n\n\ndef test_a():\n    assert not Path('away').exists()\n"}
    )
    (project / "away").symlink_to(outside)
    assert repair(project, Options(seconds=20)).status == "already_green"


def test_a_green_suite_needs_no_repair(make_project: MakeProject, capsys: pytest.CaptureFixture[str]) -> None:
    project = make_project({"test_a.py": GREEN})
    assert main([str(project)]) == 0
    assert capsys.readouterr().out.startswith("Every test passes already")


def test_the_command_says_what_it_found_and_writes_only_when_told(
    make_project: MakeProject, capsys: pytest.CaptureFixture[str]
) -> None:
    project = make_project(
        {
            "calc.py": "def double(n):\n    return n * 3  # twice\n",
            "test_calc.py": "from calc import double\n\n\ndef test_double():\n    assert double(4) == 8\n",
        }
    )
    assert main(["--time", "20", "--jobs", "1", str(project)]) == 0
    shown = capsys.readouterr().out
    assert "+    return n * 2  # twice" in shown
    assert "calc.py:2" in shown
    assert "1 failed, 0 passed" in shown
    assert "n * 3" in (project / "calc.py").read_text()
    assert main(["--time", "20", "--json", "--apply", str(project)]) == 0
    assert '"status":"repaired"' in capsys.readouterr().out
    assert (project / "calc.py").read_text() == "def double(n):\n    return n * 2  # twice\n"


def test_a_wrong_command_line_is_a_matter_of_usage() -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--time", "0"])
    assert caught.value.code == 2


def test_nothing_is_left_in_the_temporary_folder(
    make_project: MakeProject, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    repair(make_project({"test_a.py": GREEN}), Options(seconds=20))
    assert os.listdir(scratch) == []
