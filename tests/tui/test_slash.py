from __future__ import annotations

import subprocess
import sys

import pytest

from lathe.tui import slash


@pytest.mark.parametrize(
    ("text", "name", "argument"),
    [
        ("/status", "/status", ""),
        (" /STATUS ", "/status", ""),
        ("/model openai/gpt-x", "/model", "openai/gpt-x"),
        ("/exit", "/quit", ""),
        ("/?", "/help", ""),
    ],
)
def test_a_line_that_begins_with_a_command_is_one(text: str, name: str, argument: str) -> None:
    assert slash.parse(text) == slash.Command(name, argument, known=True)


@pytest.mark.parametrize("text", ["/etc/hosts", "/usr/bin/env is what?", "a /status", "/", "//x", "/1"])
def test_a_path_is_a_prompt(text: str) -> None:
    assert slash.parse(text) is None


def test_an_unknown_command_is_no_prompt() -> None:
    assert slash.parse("/stauts now") == slash.Command("/stauts", "now", known=False)
    assert slash.unknown("/stauts") == "There is no /stauts. Did you mean /status?"
    assert slash.unknown("/zzz") == "There is no /zzz. /help lists the commands."


def test_suggestions_end_with_the_first_blank() -> None:
    assert [name for name, _ in slash.suggestions("/r")] == ["/resume"]
    assert len(slash.suggestions("/")) == len(slash.COMMANDS)
    assert slash.suggestions("/model ") == slash.suggestions("r") == slash.suggestions("") == []


def test_nothing_heavy_is_imported_before_the_first_prompt() -> None:
    script = (
        "import sys\n"
        "import lathe.cli.interactive, lathe.tui.conversation\n"
        "print(*({'tree_sitter', 'mcp', 'coverage', 'lathe.mend.search'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []
