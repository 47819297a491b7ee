"""The short way past the shell: taken only where bash would do nothing else."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lathe.tools.shell import find_shell, plain_words, shell_is_plain


def bash(script: str, *args: str) -> bytes:
    return subprocess.run(["bash", "-c", script, "bash", *args], capture_output=True, check=True).stdout


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="ab0_@%+=:,./- ", max_size=40).map(lambda rest: "program " + rest))
def test_plain_words_are_those_that_bash_makes_of_the_line(line):
    words = plain_words(line)
    assert words is not None
    shown = bash(f'set -f; words=({line}); printf "%s\\0" "${{words[@]}}"')
    assert words == shown.decode().split("\0")[:-1]


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=30))
def test_a_line_with_anything_but_plain_characters_goes_to_the_shell(line):
    words = plain_words(line)
    if words is not None:
        assert all(c.isascii() and (c.isalnum() or c in " _@%+=:,./-") for c in line)
        assert words == line.split()


def test_no_builtin_or_keyword_of_bash_but_true_and_false_is_taken_for_a_program():
    words = bash("compgen -b; compgen -k").decode().split()
    assert {word for word in words if plain_words(f"{word} x") is not None} == {"true", "false"}


@pytest.mark.parametrize(
    "line",
    [
        "A=1 env",
        "a=b",
        "ls ~",
        "ls *.py",
        "ls; ls",
        "ls | wc",
        "ls > x",
        "echo $HOME",
        "a\nb",
        "ls\tx",
        "",
        " ",
        "%1",
        "x 'y'",
    ],
)
def test_what_a_shell_would_read_differently_is_left_to_it(line):
    assert plain_words(line) is None


def test_an_environment_that_changes_what_bash_does_is_not_plain():
    assert shell_is_plain({"PATH": "/bin"})
    assert not shell_is_plain({"BASH_ENV": "/x"})
    assert not shell_is_plain({"BASH_FUNC_ls%%": "() { :; }"})


def test_without_bash_the_shell_is_sh(tmp_path):
    assert find_shell({"PATH": str(tmp_path)}) == "sh"
    assert find_shell({"PATH": f"{tmp_path}:/usr/bin:/bin"}) == "bash"
