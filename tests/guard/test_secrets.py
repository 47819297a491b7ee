"""Secrets: found by rules, hidden behind placeholders, put back in."""

from __future__ import annotations

import base64
import random
import re
import stat
import string
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lathe.guard.go_regex import NoTranslation, python_pattern
from lathe.guard.secret_rules import load_secret_rules
from lathe.guard.shell_quoting import quoted_at
from lathe.guard.vault import PLACEHOLDER, UnknownPlaceholder, Vault
from lathe.protocol.errors import ConfigError
from lathe.tools.output import OutputBuffer
from lathe.tools.passing import Passing

RULES = load_secret_rules()
LETTERS = string.ascii_letters + string.digits
RANDOM = random.Random(7)


def some(letters: str, count: int) -> str:
    return "".join(RANDOM.choices(letters, k=count))


TOKENS = {
    "github_pat": "ghp_" + some(LETTERS, 36),
    "aws_access_token": "AKIA" + some(string.ascii_uppercase, 16),
    "anthropic_api_key": "sk-ant-api03-" + some(LETTERS + "-_", 95),
    "gitlab_token": "glpat-" + some(LETTERS, 20),
    "slack_token": f"xoxb-{some('123456789', 12)}-{some(LETTERS, 24)}",
    "jwt": f"eyJhbGciOiJIUzI1NiJ9xx.eyJzdWIi{some(LETTERS, 20)}.{some(LETTERS, 43)}",
}
KEY = [base64.b64encode(RANDOM.randbytes(48)).decode() for _ in range(6)]
ARMOURED = "\n".join(["-----BEGIN RSA PRIVATE KEY-----", *KEY, "-----END RSA PRIVATE KEY-----", ""])


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path, lambda: RULES)


@pytest.mark.parametrize("kind", TOKENS)
def test_a_token_is_known_by_its_form(kind: str, vault: Vault) -> None:
    token = TOKENS[kind]
    text = f"1 {token}\n'{token}' https://x:{token}@y.org\n{token}"
    hidden = vault.hide(text)
    assert token not in hidden
    assert f"1 LATHE_SECRET_{kind}_" in hidden
    assert len(set(re.findall(PLACEHOLDER.pattern, hidden))) == 1
    assert vault.hide(hidden) == hidden
    assert vault.reveal(hidden) == text


@pytest.mark.parametrize(
    "text",
    [
        "token = self.next_token(text)\npassword = getpass.getpass()\n",
        "secret_key: SecretKeyType = DEFAULT_SECRET_KEY\nAPI_KEY=$OTHER_KEY\n",
        "commit 5f2b1c9d8e7a6b5c4d3e2f1a0b9c8d7e6f5a4b3c\nid 550e8400-e29b-41d4-a716-446655440000\n",
        '"integrity": "sha512-VwXnyPk6Q4l7H3O2mE0g8h6JtYz1a3b5c7d9e1f3g5h7i9jAkBlCmDnEoFpGqHr=="\n',
        "https://user@example.org/ http://localhost:8080/a@b postgres://postgres:postgres@db/x\n",
        "if '-----BEGIN PRIVATE KEY-----' in text: return a_long_function_name(with_arguments)\n",
        "task-force-of-many-people disk-abcdefghijklmnopqrst sk-spinner-container-large\n",
    ],
)
def test_what_only_looks_like_a_secret_is_let_through(text: str, vault: Vault) -> None:
    assert vault.hide(text) == text
    assert not vault.summary()


@pytest.mark.parametrize(
    "shown",
    [
        ARMOURED,
        "".join(f"+{line}\n" for line in ARMOURED.splitlines()),
        "".join(f"key.pem:{number}:{line}\n" for number, line in enumerate(ARMOURED.splitlines(), 1)),
        "\n".join(ARMOURED.splitlines()[:4]) + "\n",
        "\n".join(ARMOURED.splitlines()[4:]) + "\n",
        ARMOURED.replace("\n", "\\n"),
    ],
    ids=["file", "diff", "grep", "head", "tail", "JSON"],
)
def test_a_private_key_is_hidden_line_by_line(shown: str, vault: Vault) -> None:
    hidden = vault.hide(f"before\n{shown}after\n")
    assert not [line for line in KEY if line[:20] in hidden]
    assert hidden.count("\n") == shown.count("\n") + 2
    assert hidden.startswith("before\n")
    assert hidden.endswith("after\n")
    assert vault.reveal(hidden) == f"before\n{shown}after\n"


def test_what_was_hidden_once_is_hidden_wherever_it_stands(vault: Vault) -> None:
    vault.hide(ARMOURED + "client_secret = 'k3!Gv~x.9QwZ-p2L'\n")
    text = f"{KEY[2]}\nx=k3!Gv~x.9QwZ-p2L&y=k3%21Gv~x.9QwZ-p2L"
    hidden = vault.hide(text)
    assert "9QwZ" not in hidden
    assert KEY[2] not in hidden
    assert vault.reveal(hidden) == text


def test_secrets_in_secrets_are_one(tmp_path: Path) -> None:
    inner = "inner-9f8e7d6c5b"
    vault = Vault(tmp_path, lambda: RULES, [(inner, "variable")])
    text = f"API_TOKEN={inner}.{some(LETTERS, 20)}\n{inner}"
    hidden = vault.hide(text)
    assert len(PLACEHOLDER.findall(hidden)) == 2
    assert inner not in hidden
    assert vault.reveal(hidden) == text


@given(
    parts=st.lists(
        st.one_of(
            st.sampled_from(
                [*TOKENS.values(), *KEY, ARMOURED, "LATHE_SECRET_x_00000000", "password=", "k = ", "@", '"']
            ),
            st.text(max_size=12),
            st.text(alphabet="aZ9_-\n:=/'\" ", max_size=12),
        ),
        max_size=12,
    )
)
def test_what_was_hidden_can_be_revealed_and_hides_no_further(
    parts: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = "".join(parts)
    vault = Vault(tmp_path_factory.getbasetemp(), lambda: RULES, [(TOKENS["jwt"], "variable")])
    hidden = vault.hide(text)
    assert vault.reveal(hidden) == text
    assert TOKENS["jwt"] not in hidden
    again = vault.hide(hidden)
    assert vault.reveal(again) == text


def test_a_placeholder_is_the_same_in_every_thread_and_unknown_until_its_value_was_seen(tmp_path: Path) -> None:
    token = TOKENS["github_pat"]
    name = Vault(tmp_path, lambda: RULES).hide(token)
    later = Vault(tmp_path, lambda: RULES)
    with pytest.raises(UnknownPlaceholder, match="look again at the file"):
        later.reveal(f"echo {name}")
    assert later.hide(f"GITHUB_TOKEN={token}").endswith(name[-8:])
    assert later.reveal(f"echo {name}") == f"echo {token}"
    assert Vault(tmp_path, lambda: RULES, [(token, "variable")]).reveal(name) == token
    key = tmp_path / "secrets.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["secrets.key"]
    assert Vault(tmp_path / "other", lambda: RULES).hide(token) != name


def test_text_that_only_looks_like_a_placeholder_stands_for_itself(vault: Vault) -> None:
    text = "See LATHE_SECRET_github_pat_" + "0123abcd in the docs."
    assert vault.hide(text) == text
    assert vault.reveal(text) == text


def test_no_half_of_a_secret_is_left_at_the_cut_of_a_long_output(vault: Vault, tmp_path: Path) -> None:
    token = TOKENS["github_pat"]
    for shift in range(0, 60, 3):
        buffer = OutputBuffer(40, tmp_path / "spill", vault)
        buffer.write(b"x" * shift + (f" {token}" * 40).encode())
        shown = buffer.take().text
        assert "cut" in shown
        assert token[4:16] not in shown
        assert token[-12:] not in shown


def test_no_half_of_a_secret_is_left_where_output_arrives_in_pieces(vault: Vault, tmp_path: Path) -> None:
    token = TOKENS["anthropic_api_key"]
    text = f"start\nkey: {token} end\n{ARMOURED}Password: "
    for size in (1, 7, 40, 100):
        passing = Passing(vault)
        buffer = OutputBuffer(10_000, tmp_path / "spill", vault)
        live, taken = "", ""
        for at in range(0, len(text), size):
            live += passing.add(text[at : at + size], more=True)
            buffer.write(text[at : at + size].encode())
            taken += buffer.take(more=at + size < len(text)).text
        for shown in (live, taken):
            assert shown.startswith("start\nkey: ")
            assert shown.endswith("-----END RSA PRIVATE KEY-----\nPassword: ")
            assert not [at for at in range(5, 80) if token[at : at + 12] in shown]
            assert not [line for line in KEY if line[:20] in shown]


@pytest.mark.parametrize(
    ("go", "matching", "other"),
    [
        (r"a(?i)b|c", ["aB", "c", "C"], ["Ab"]),
        (r"(x(?i)y|z)w", ["xYw", "Zw"], ["XYw", "xyW"]),
        (r"(?i)a(?-i)b", ["Ab"], ["AB"]),
        (r"[[:alnum:]_]+\z", ["aZ9_"], ["a-"]),
        (r"[^[:^alpha:]]", ["a"], ["1"]),
        (r"^a$", ["a"], ["a\n"]),
        (r"\Qa.b\E+", ["a.bb"], ["axb"]),
        (r"[\pL-]+", ["ä-"], ["1"]),
        (r"a{,3}", ["a{,3}"], ["aa"]),
        (r"(?<n>a)(?s).b", ["a\nb"], ["ab"]),
        (r"\x{263A}[[a]", ["☺[", "☺a"], ["☺"]),
    ],
)
def test_expressions_of_go_mean_the_same_in_python(go: str, matching: list[str], other: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pattern = re.compile(python_pattern(go), re.ASCII)
    assert all(pattern.fullmatch(text) for text in matching)
    assert not any(pattern.fullmatch(text) for text in other)


@pytest.mark.parametrize("go", ["a(?U)b", "(a", "a)", r"\yb", "a**", r"\p{Nope}", "[a", "a{1001}", "(?=a)", "\\"])
def test_what_go_does_not_take_or_python_has_no_form_for_is_refused(go: str) -> None:
    with pytest.raises(NoTranslation):
        python_pattern(go)


def test_the_shipped_rules_are_sound() -> None:
    for rule in RULES.rules:
        assert rule.pattern.groups >= (0 if rule.id == "private-key" else 1)
        assert rule.keywords
        assert len({one.kind for one in RULES.rules}) == len(RULES.rules)


OWN = """
title = "ours"
[extend]
useDefault = true
disabledRules = ["jwt"]
[[rules]]
id = "house-key"
regex = '''(?i)house[=:]\\s*(\\w+)-([[:alnum:]]{8})'''
SecretGroup = 2
entropy = 2
keywords = ["HOUSE"]
path = '''\\.py$'''
[[rules.allowlists]]
condition = "AND"
regexTarget = "line"
regexes = ['''sample''']
stopwords = ["ABCDEF"]
[[rules]]
id = "files-only"
path = '''\\.p12$'''
[[rules]]
id = "github-pat"
[rules.allowlist]
stopwords = ["notreal"]
[allowlist]
paths = ['''vendor''']
"""


def test_a_file_of_gitleaks_is_added_to_the_rules(tmp_path: Path) -> None:
    own = tmp_path / "gitleaks.toml"
    own.write_text(OWN)
    vault = Vault(tmp_path, lambda: load_secret_rules(own))
    lines = {
        "house=a-k3j4h5g6": True,
        "HOUSE: b-zzzzzzzz": False,
        "house=a-abcdef12 sample": False,
        "house=a-abcdef12": True,
        TOKENS["jwt"]: False,
        TOKENS["gitlab_token"]: True,
        "ghp_notreal" + some(LETTERS, 29): False,
        TOKENS["github_pat"]: True,
    }
    assert {line: vault.hide(line) != line for line in lines} == lines
    assert vault.hide("house=a-k3j4h5g6").startswith("house=a-LATHE_SECRET_house_key_")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[rules]]\nid='a-b'\nregex='''(?U)x'''", "the rule a-b can't be used: the flag U"),
        ("[[rules]]\nid='a-b'\nregex='''x'''\nsecretGroup=1", "the rule a-b can't be used: secretGroup is 1"),
        ("[[rules]]\nid='a-b'\nregex='''x'''\n[[rules.allowlists]]\nregexes=['''(''']", "the rule a-b can't be used"),
        ("[[rules]]\nid='a-b'\nregex='''x'''\n[[rules.allowlists]]\ncondition='NOR'", "condition is 'NOR'"),
        ("[[rules]]\nregex='''x'''", "a rule can't be used: it has no id"),
        ("rules = 3", "not in the format of gitleaks"),
        ("[[rules", "is not TOML"),
    ],
)
def test_a_rule_that_cannot_be_used_is_named(text: str, said: str, tmp_path: Path) -> None:
    own = tmp_path / "gitleaks.toml"
    own.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(said)):
        load_secret_rules(own)


def test_a_value_is_quoted_as_its_place_in_the_line_asks_for() -> None:
    word, value = "WORD", "a'b\"c$d"
    for command, written in {
        "echo WORD": """echo 'a'"'"'b"c$d'""",
        "echo 'x WORD'": """echo 'x a'\\''b"c$d'""",
        'echo "x WORD"': 'echo "x a\'b\\"c\\$d"',
        'echo "$(cat WORD)"': """echo "$(cat 'a'"'"'b"c$d')\"""",
        "cat <<'E'\nWORD\nE": "cat <<'E'\na'b\"c$d\nE",
        "cat <<E\nWORD\nE": "cat <<E\na'b\"c\\$d\nE",
    }.items():
        assert command.replace(word, quoted_at(command, command.index(word), value)) == written
