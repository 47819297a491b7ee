"""What a line of shell would run: every part is found, and what bash might read otherwise is not vouched for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lathe.guard.shell import Found, Part, analyse, plain_parts, split_command
from lathe.guard.shell_tree import read_tree


@pytest.mark.parametrize(
    ("command", "parts"),
    [
        ("ls -la", [["ls", "-la"]]),
        (
            "cd src && pytest -q | tail -5; echo done || true &",
            [["cd", "src"], ["pytest", "-q"], ["tail", "-5"], ["echo", "done"], ["true"]],
        ),
        ("""git commit -m "a 'b' c" 'd e' f\\ g""", [["git", "commit", "-m", "a 'b' c", "d e", "f g"]]),
        ("(cd x && rm y); { make; }", [["cd", "x"], ["rm", "y"], ["make"]]),
        ("if a; then b; elif c; then d; else e; fi", [["a"], ["b"], ["c"], ["d"], ["e"]]),
        ("while a; do b; done; until c; do d; done", [["a"], ["b"], ["c"], ["d"]]),
        ("case x in a) b;; *) c;; esac", [["b"], ["c"]]),
        ("f() { rm x; }; f", [["rm", "x"], ["f"]]),
        ("! git push", [["git", "push"]]),
        ("echo $(id -u) `whoami`", [["echo", None, None], ["id", "-u"], ["whoami"]]),
        ('echo "a $(id) b"', [["echo", None], ["id"]]),
        ("diff <(ls a) >(cat)", [["diff", None, None], ["ls", "a"], ["cat"]]),
        ("x=$(id) y=2", [["id"]]),
        ("A=1 make", [["make"]]),
        ("$'\\x72m' -rf /", [["rm", "-rf", "/"]]),
        ('"git" pu"sh" --for\'ce\'', [["git", "push", "--force"]]),
        ("echo {a,b} $X ~/x *.py", [["echo", None, None, "~/x", "*.py"]]),
        ("ls 2>&1 -la > /dev/null", [["ls", "-la"]]),
        ("git >&2 push --force", [["git", "push", "--force"]]),
        ("python3 - <<'EOF'\nprint(`x`)\nEOF", [["python3", "-"]]),
        ("cat <<EOF\n$(id) `who`\nEOF", [["cat"], ["who"], ["id"]]),
        ("git commit -m \"$(cat <<'EOF'\nfix `x`\nEOF\n)\"", [["git", "commit", "-m", "fix `x`"], ["cat"]]),
        ("[ -f a ] && [[ b == c ]]", [["["], ["[["]]),
        ("git \\\n  push", [["git", "push"]]),
        ("", []),
        ("# only a comment", []),
    ],
)
def test_every_simple_command_is_found(command: str, parts: list[list[str | None]]) -> None:
    assert split_command(command) == parts


@pytest.mark.parametrize(
    ("command", "inner"),
    [
        ("sudo -u bob rm -rf /", ["rm", "-rf", "/"]),
        ("env -i A=1 rm x", ["rm", "x"]),
        ("env -S 'rm -rf x'", ["rm", "-rf", "x"]),
        ("nohup rm x", ["rm", "x"]),
        ("time -p rm x", ["rm", "x"]),
        ("timeout -k 5 --signal=KILL 10 rm x", ["rm", "x"]),
        ("nice -n 5 rm x", ["rm", "x"]),
        ("nice -5 rm x", ["rm", "x"]),
        ("stdbuf -oL rm x", ["rm", "x"]),
        ("command rm x", ["rm", "x"]),
        ("exec -a y rm x", ["rm", "x"]),
        ("eval rm 'x y'", ["rm", "x", "y"]),
        ("eval 'ls; rm x'", ["rm", "x"]),
        ("bash -c 'ls; rm x'", ["rm", "x"]),
        ("/bin/sh -lc 'rm x' name arg", ["rm", "x"]),
        ("bash -o pipefail -ec 'rm x'", ["rm", "x"]),
        ("bash <<'EOF'\nrm x\nEOF", ["rm", "x"]),
        ("bash -s <<< 'rm x'", ["rm", "x"]),
        ("echo 'rm x' | sh", ["rm", "x"]),
        ("cat <<EOF | bash\nrm x\nEOF", ["rm", "x"]),
        ('bash -c "rm x && $Y"', ["rm", "x"]),
        ("watch -n 2 'rm x'", ["rm", "x"]),
        ("watch -x rm x", ["rm", "x"]),
        ("trap 'rm x' EXIT", ["rm", "x"]),
        ("find . -name x -exec rm {} \\;", ["rm", None]),
        ("find . -execdir rm -f {} +", ["rm", "-f", None]),
        ("fd x -x rm", ["rm", None]),
        ("ls | xargs -0 -n 1 rm -f", ["rm", "-f", None]),
        ("ls | xargs -I{} rm {}", ["rm", None]),
        ("sudo env A=1 timeout 5 bash -lc 'nohup rm x'", ["rm", "x"]),
        ("busybox rm x", ["rm", "x"]),
        ("flock /tmp/l -c 'rm x'", ["rm", "x"]),
        ("su -c 'rm x' bob", ["rm", "x"]),
        ("uv run --with y rm x", ["rm", "x"]),
        ("coproc rm x", ["rm", "x"]),
        ("xargs bash -c 'rm x'", ["rm", "x"]),
    ],
)
def test_what_a_wrapper_starts_is_found(command: str, inner: list[str | None]) -> None:
    parts = split_command(command)
    assert parts is not None
    assert any(part[-len(inner) :] == inner and len(part) <= len(inner) + 2 for part in parts), parts


@pytest.mark.parametrize(
    "command",
    [
        "echo 'unfinished",
        "ls (",
        "if true",
        "gi\\\nt push",
        "echo ``",
        "ls\0x",
        "ls\rrm x",
        "echo \ud800",
        "$ 'x'",
        "x --<<EOF\nEOF",
        "[a] b",
        "c == b\nrm x",
    ],
)
def test_a_line_that_bash_may_read_otherwise_is_not_vouched_for(command: str) -> None:
    assert analyse(command).broken or analyse(command).opaque


@pytest.mark.parametrize(
    "command",
    [
        "$CMD x",
        "a{b,c} x",
        "./*.sh",
        "bash",
        "curl x | sh",
        'eval "$X"',
        "bash -c $X",
        "x='a[$(id)]'; echo $((x))",
        "echo ${x@P}",
        "(( x = y ))",
        "[[ $x -eq 1 ]]",
        "timeout --unknown 5 rm x",
        "sudo $OPT rm",
    ],
)
def test_what_the_text_does_not_show_is_opaque(command: str) -> None:
    assert analyse(command).opaque


def test_targets_of_redirections_are_noted() -> None:
    assert analyse("ls > out 2>> err < in 2>&1 >&-").writes == ("out", "err")
    assert analyse('ls > "$X"').writes == (None,)
    assert analyse("{ ls; } &> all").writes == ("all",)
    assert analyse("cat < /dev/tcp/host/80").writes == ("/dev/tcp/host/80",)
    assert analyse("cat <<'EOF' > f\nx\nEOF").writes == ("f",)


def test_variables_set_before_a_command_are_noted() -> None:
    assert analyse("PATH=/x ls").parts[0].assigns == ("PATH",)
    assert analyse("env LD_PRELOAD=x ls").parts[1].assigns == ("LD_PRELOAD",)
    assert analyse("export PATH=/x").parts[0].assigns == ("PATH",)
    assert analyse("for PATH in x; do ls; done").parts[0].assigns == ("PATH",)
    assert analyse("PATH=x").parts[0] == Part((), assigns=("PATH",))


def test_a_plain_line_loads_no_grammar() -> None:
    code = (
        "import sys; from lathe.guard.shell import analyse;"
        "assert len(analyse('cd a && git commit -m \"x y\" 2>&1 | tail -5').parts) == 3;"
        "assert 'tree_sitter' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_long_list_and_a_deep_nest_end_in_an_answer() -> None:
    assert len(analyse(" && ".join(["a"] * 3000)).parts) == 3000
    assert len(analyse("{ :; }; " + " && ".join(["a"] * 3000)).parts) == 3001
    analyse("$(" * 2000 + ")" * 2000)
    assert analyse("sudo " * 50 + "rm x").broken
    assert analyse("x" * 1_000_001).broken


_WORDS = st.sampled_from(["a", "b1", "x.py", "-f", "--all", "'q r'", '"s t"', "u\\ v", "$'w'"])
_PLAIN = {"'q r'": "q r", '"s t"': "s t", "u\\ v": "u v", "$'w'": "w"}


@st.composite
def _simple(draw: st.DrawFn) -> tuple[str, list[list[str]]]:
    words = [draw(st.sampled_from(["git", "rm", "tool", "./run"])), *draw(st.lists(_WORDS, max_size=3))]
    return " ".join(words), [[_PLAIN.get(word, word) for word in words]]


def _compound(
    children: st.SearchStrategy[tuple[str, list[list[str]]]],
) -> st.SearchStrategy[tuple[str, list[list[str]]]]:
    one = st.sampled_from(
        [
            "( {} )",
            "{{ {}; }}",
            "if {}; then :; fi",
            "while {}; do :; done",
            "for i in 1; do {}; done",
            "f() {{ {}; }}",
            "echo $( {} )",
            'echo "x $( {} ) y"',
            "cat <( {} )",
            "case a in b) {};; esac",
            "{} > /dev/null",
        ]
    )
    two = st.sampled_from(["{} && {}", "{} || {}", "{} | {}", "{} ; {}", "{}\n{}", "{} & {}"])
    return st.one_of(
        st.tuples(one, children).map(lambda made: (made[0].format(made[1][0]), made[1][1])),
        st.tuples(two, children, children).map(
            lambda made: (made[0].format(made[1][0], made[2][0]), made[1][1] + made[2][1])
        ),
    )


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.recursive(_simple(), _compound, max_leaves=6))
def test_every_simple_command_of_a_compound_one_is_found(made: tuple[str, list[list[str]]]) -> None:
    command, wanted = made
    found = [list(part.words) for part in analyse(command).parts]
    for words in wanted:
        assert words in found, command


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text(max_size=60) | st.lists(st.sampled_from(list("$`'\"(){}<>|&;\\ \n!#*a=")), max_size=40).map("".join))
@example("cat <<A <<B\nA\nB")
def test_no_text_makes_it_raise(text: str) -> None:
    analyse(text)


_PIECES = ["a", "-f", "'x y'", '"p q"', "x=1", " && ", " | ", "; ", " || ", " ", "  ", "2>&1", " 2>/dev/null", "b.py"]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(_PIECES), max_size=10).map("".join))
def test_the_quick_reader_agrees_with_the_grammar(text: str) -> None:
    quick = plain_parts(text)
    if quick is None:
        return
    slow = Found()
    read_tree(text, slow)
    if not slow.broken:
        assert [part.words for part in quick] == [part.words for part in slow.parts]


_SOUP = [
    *("c1", "c2", "git", "rm", "a", "-f", "'x y'", '"p q"', '"u $V w"', "$V", "${V}", "$(", ")", "`", "'", '"', ";"),
    *("&&", "||", "|", "&", "\n", "\\\n", "\\", "{", "}", "{a,b}", "(", "!", "if", "then", "fi", "for i in", "do"),
    *("done", "while", "case x in", "esac", "x)", "<<EOF\n", "\nEOF\n", "<<'EOF'\n", "<<<", ">", "/dev/null", "2>&1"),
    *("<(", "#", "$((", "))", "[[", "]]", "==", "A=1", "f()", "time", "eval", "bash -c", "xargs", "env", "command"),
    *("$'\\x72m'", '$"c1"', "${V:-", "|&", "&>", ">&2", "<&0", "\\$", '\\"', "$", "%", "=", "-"),
]
_RECORDER = """
command_not_found_handle() { printf '%s\\0' "$@" $'\\001' >&9; return 0; }
PATH=/nonexistent V=vv
eval "$0"
"""


def _ran_by_bash(command: str, folder: Path) -> list[list[str]]:
    """The commands that bash runs for `command`, none of which exists."""
    reading, writing = os.pipe()
    try:
        process = subprocess.Popen(
            ["/bin/bash", "--norc", "-c", f"exec 9>&{writing}\n{_RECORDER}", command],
            pass_fds=(writing,),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            start_new_session=True,
        )
        try:
            process.wait(2)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        os.set_blocking(reading, False)
        try:
            data = os.read(reading, 60_000)
        except BlockingIOError:
            data = b""
    finally:
        os.close(reading)
        os.close(writing)
    commands: list[list[str]] = [[]]
    for word in data.decode(errors="replace").split("\0")[:-1]:
        if word == "\x01":
            commands.append([])
        else:
            commands[-1].append(word)
    return [words for words in commands[:-1] if words != [""]]


def _covers(words: tuple[str | None, ...], ran: list[str]) -> bool:
    """Whether the part `words`, where None stands for any number of words, is the command that ran."""
    if not words:
        return not ran
    if words[0] is None:
        return any(_covers(words[1:], ran[count:]) for count in range(len(ran) + 1))
    return bool(ran) and words[0] == ran[0] and _covers(words[1:], ran[1:])


@pytest.mark.skipif(not Path("/bin/bash").exists(), reason="bash is what we compare with")
@settings(
    max_examples=250, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(st.sampled_from(_SOUP), st.sampled_from([" ", " ", ""])), max_size=9))
@example([("git", " "), (">&2", " "), ("-f", "")])
@example([("c1", " "), ("<<EOF\n", ""), ("`", ""), ("rm", ""), ("`", ""), ("\nEOF\n", "")])
def test_bash_runs_nothing_that_was_not_found(tmp_path: Path, pieces: list[tuple[str, str]]) -> None:
    command = "".join(piece + space for piece, space in pieces)
    analysis = analyse(command)
    if analysis.broken or analysis.opaque:
        return
    for ran in _ran_by_bash(command, tmp_path):
        assert any(_covers(part.words, ran) for part in analysis.parts), (command, ran, analysis)
