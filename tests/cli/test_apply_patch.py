from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

RUN = "import sys; from lathe.cli.apply_patch import main; sys.exit(main(sys.argv[1:]))"
PATCH = "*** Begin Patch\n*** Update File: a\n@@\n-one\n+ONE\n*** End Patch\n"


def run(cwd: Path, *argv: str, stdin: bytes = b"") -> tuple[int, str, str]:
    done = subprocess.run([sys.executable, "-c", RUN, *argv], cwd=cwd, input=stdin, capture_output=True, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.fixture
def cwd(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a").write_text("one\n")
    return tmp_path / "sub"


@pytest.mark.parametrize(("argv", "stdin"), [((PATCH,), b""), ((), PATCH.encode()), (("-",), PATCH.encode())])
def test_a_patch_comes_as_the_argument_or_on_stdin_and_resolves_in_the_working_directory(
    cwd: Path, argv: tuple[str, ...], stdin: bytes
):
    assert run(cwd, *argv, stdin=stdin) == (0, "Success. Updated the following files:\nM a\n", "")
    assert (cwd / "a").read_text() == "ONE\n"


def test_a_failure_is_one_message_on_stderr_and_exit_1(cwd: Path):
    code, out, err = run(cwd, PATCH.replace("-one", "-two"))
    assert (code, out) == (1, "")
    assert err.startswith("lathe apply-patch: a: hunk 1 of 1 does not fit")
    assert "Traceback" not in err
    assert run(cwd, "nonsense")[0] == 1
    assert (cwd / "a").read_text() == "one\n"


def test_no_patch_or_too_many_is_a_question_of_usage(cwd: Path):
    assert run(cwd)[0] == 2
    assert run(cwd, PATCH, PATCH)[0] == 2
    assert run(cwd, "--wrong")[0] == 2
    code, out, _ = run(cwd, "--help")
    assert code == 0
    assert "stdin" in out


def test_the_persons_own_command_may_go_anywhere_but_into_git(cwd: Path):
    assert run(cwd, "*** Begin Patch\n*** Add File: ../out\n+x\n*** End Patch")[0] == 0
    assert (cwd.parent / "out").read_text() == "x\n"
    code, _, err = run(cwd, "*** Begin Patch\n*** Add File: .git/hooks/x\n+x\n*** End Patch")
    assert (code, (cwd / ".git").exists()) == (1, False)
    assert "Refused: .git/hooks/x" in err


def test_bytes_on_stdin_that_are_no_utf_8_reach_the_file(cwd: Path):
    code, out, _ = run(cwd, stdin=b"*** Begin Patch\n*** Add File: n\xe9\n+caf\xe9\n*** End Patch")
    assert (code, out) == (0, "Success. Updated the following files:\nA n?\n")
    assert b"caf\xe9\n" in [path.read_bytes() for path in cwd.iterdir()]
