"""Approvals: the table of decisions, and what a person's answers change."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from lathe.agent.approvals import ApprovalAnswer, ApprovalQuestion, Approvals, decide
from lathe.agent.protection import path_rules
from lathe.agent.rules import Rules, load_rules
from lathe.agent.verdict import Allow, Forbid, MustAsk, Verdict
from lathe.config.settings import PathTable, RuleSpec, RuleTables, Settings
from lathe.protocol.errors import ConfigError
from lathe.sandbox.policy import SandboxPolicy
from lathe.tools.base import CallExternal, RunCommand, WriteFiles

RULES = Rules(
    allow=(RuleSpec(prefix=("npm", "run")), RuleSpec(tool="docs/*")),
    ask=(RuleSpec(prefix=("git", "tag"), reason="Tags are for releases."), RuleSpec(tool="mail/*")),
    forbid=(RuleSpec(prefix=("git", "push"), flags=("--force",), reason="Never."), RuleSpec(tool="shell/*")),
)
NO_RULES = Rules()


@pytest.fixture
def ws(tmp_path: Path) -> Path:
    (tmp_path / "ws" / "src").mkdir(parents=True)
    return tmp_path / "ws"


def judge(access: Any, ws: Path, **more: Any) -> Verdict:
    mode = more.pop("mode", "workspace-write")
    policy = SandboxPolicy(mode, (str(ws),))
    return decide((access,), **{"approve": "on-request", "rules": RULES, "cwd": ws, "policy": policy} | more)


def run(command: str, ws: Path, *, escalate: bool = False, cwd: str = "", **more: Any) -> str:
    verdict = judge(RunCommand(command, cwd or str(ws), escalate), ws, **more)
    if isinstance(verdict, Allow):
        return "free" if verdict.escalated else "allow"
    return "ask" if isinstance(verdict, MustAsk) else "refuse"


@pytest.mark.parametrize(
    ("command", "more", "expected"),
    [
        # confined commands run without a question, whatever they are
        ("rm -rf build", {}, "allow"),
        ("curl x | sh", {"rules": NO_RULES}, "allow"),
        ("rm -rf /", {"mode": "read-only"}, "allow"),
        ("ls (", {"rules": NO_RULES}, "allow"),
        # forbid wins always
        ("git push origin --force", {}, "refuse"),
        ("git push --force", {"mode": "danger-full-access"}, "refuse"),
        ("git push --force", {"mode": "danger-full-access", "approve": "never"}, "refuse"),
        ("ls && bash -c 'git push --force'", {"escalate": True}, "refuse"),
        ("echo 'git push --force' | sh", {}, "refuse"),
        # ask rules
        ("git tag v1", {}, "ask"),
        ("git tag v1", {"approve": "never"}, "refuse"),
        ("git tag v1", {"approve": "never", "mode": "danger-full-access"}, "allow"),
        # where rules can't be tried
        ("$CMD push", {}, "ask"),
        ("gi\\\nt push --force", {}, "ask"),
        ("$CMD push", {"rules": NO_RULES}, "allow"),
        ("$CMD push", {"approve": "never"}, "refuse"),
        # escalation
        ("git push", {"escalate": True}, "ask"),
        ("git push", {"escalate": True, "approve": "never"}, "refuse"),
        ("npm run test", {"escalate": True}, "free"),
        ("npm run test", {"escalate": True, "approve": "never"}, "free"),
        ("npm run test", {}, "allow"),
        ("cd src && npm run test 2>&1 | tail -5", {"escalate": True}, "free"),
        ("timeout 60 npm run test", {"escalate": True}, "free"),
        ("npm run test > log", {"escalate": True}, "free"),
        ("npm run test && curl x", {"escalate": True}, "ask"),
        ("npm run test && cat /etc/shadow", {"escalate": True}, "ask"),
        ("npm run test | tail -5 /etc/shadow", {"escalate": True}, "ask"),
        ("npm run test > /etc/x", {"escalate": True}, "ask"),
        ("npm run test > .git/hooks/pre-commit", {"escalate": True}, "ask"),
        ("npm run test > $X", {"escalate": True}, "ask"),
        ("npm run $X", {"escalate": True}, "ask"),
        ("cd / && npm run test", {"escalate": True}, "ask"),
        ("npm run test", {"escalate": True, "cwd": "/"}, "ask"),
        ("PATH=/x npm run test", {"escalate": True}, "ask"),
        ("env PATH=/x npm run test", {"escalate": True}, "ask"),
        ("CI=1 npm run test", {"escalate": True}, "free"),
        ("sudo npm run test", {"escalate": True}, "ask"),
        ("npm run a$(curl x)", {"escalate": True}, "ask"),
        ("npm run test (", {"escalate": True}, "ask"),
        ("echo hello", {"escalate": True}, "ask"),
        # nothing confines: what destroys asks
        ("ls", {"mode": "danger-full-access"}, "allow"),
        ("rm -rf build", {"mode": "danger-full-access"}, "allow"),
        ("rm -rf /", {"mode": "danger-full-access"}, "ask"),
        ("git reset --hard", {"mode": "danger-full-access"}, "allow"),
        ("xargs rm -rf", {"mode": "danger-full-access"}, "ask"),
        ("ls (", {"mode": "danger-full-access"}, "ask"),
        ("rm -rf /", {"mode": "danger-full-access", "approve": "never"}, "allow"),
        ("git push -f", {"escalate": True, "rules": Rules(allow=(RuleSpec(prefix=("git",)),))}, "ask"),
        # untrusted
        ("git status && rg x | head", {"approve": "untrusted"}, "allow"),
        ('for f in *.py; do wc -l "$f"; done', {"approve": "untrusted"}, "allow"),
        ("bash -lc 'ls | wc -l'", {"approve": "untrusted"}, "allow"),
        ("npm run test", {"approve": "untrusted"}, "allow"),
        ("ls > x", {"approve": "untrusted"}, "ask"),
        ("ls > /dev/null 2>&1", {"approve": "untrusted"}, "allow"),
        ("pytest", {"approve": "untrusted"}, "ask"),
        ("PATH=/x ls", {"approve": "untrusted"}, "ask"),
        ("ls $(curl x)", {"approve": "untrusted"}, "ask"),
        ("x='a[$(id)]'; echo $((x))", {"approve": "untrusted"}, "ask"),
        ("ls() { curl x; }; ls", {"approve": "untrusted"}, "ask"),
        ("make", {"approve": "untrusted", "mode": "danger-full-access"}, "ask"),
        ("", {"approve": "untrusted"}, "ask"),
    ],
)
def test_commands(ws: Path, command: str, more: dict[str, Any], expected: str) -> None:
    assert run(command, ws, **more) == expected


@pytest.mark.parametrize(
    ("path", "more", "expected"),
    [
        ("{ws}/a", {}, Allow()),
        ("{ws}/a", {"approve": "never"}, Allow()),
        ("{ws}/a", {"approve": "untrusted"}, MustAsk),
        ("{ws}/a", {"mode": "read-only"}, MustAsk),
        ("{ws}/a", {"mode": "read-only", "approve": "never"}, Forbid),
        ("/etc/passwd", {}, MustAsk),
        ("/etc/passwd", {"approve": "never"}, Forbid),
        ("{ws}/../x", {}, MustAsk),
        ("{ws}/link/x", {}, MustAsk),
        ("{ws}/.git/hooks/pre-commit", {}, MustAsk),
        ("{ws}/.lathe/config.toml", {"approve": "never"}, Forbid),
        ("{ws}/sub/.git/config", {}, MustAsk),
        ("/etc/passwd", {"mode": "danger-full-access"}, Allow()),
        ("/etc/passwd", {"mode": "danger-full-access", "approve": "untrusted"}, MustAsk),
    ],
)
def test_writes(ws: Path, path: str, more: dict[str, Any], expected: Any) -> None:
    (ws / "link").symlink_to("/etc")
    verdict = judge(WriteFiles((path.format(ws=ws),)), ws, **more)
    assert verdict == expected if isinstance(expected, Allow) else isinstance(verdict, expected)


@pytest.mark.parametrize(
    "name", ["AGENTS.md", "sub/CLAUDE.md", ".agents/skills/x/SKILL.md", ".env", "secret/x", "ro/x"]
)
def test_what_commands_may_not_write_is_asked_about_and_refused_with_the_reason(ws: Path, name: str) -> None:
    settings = Settings(paths=PathTable(hide=("secret",), protect=("ro",)))
    policy = SandboxPolicy("workspace-write", (str(ws),), paths=path_rules(settings, ws))
    more: dict[str, Any] = {"policy": policy, "rules": RULES, "cwd": ws}
    wish = (WriteFiles((str(ws / name),)),)
    asked = decide(wish, approve="on-request", **more)
    assert isinstance(asked, MustAsk)
    assert asked.escalated
    refused = decide(wish, approve="never", **more)
    assert isinstance(refused, Forbid)
    assert asked.reason in refused.reason
    opened = settings.paths.__class__(write=(name,))
    policy = SandboxPolicy("workspace-write", (str(ws),), paths=path_rules(Settings(paths=opened), ws))
    assert decide(wish, approve="never", **{**more, "policy": policy}) == Allow()


def test_rules_that_hide_the_whole_workspace_are_an_error(ws: Path) -> None:
    for pattern in (".", "**", str(ws)):
        with pytest.raises(ConfigError, match="whole workspace"):
            path_rules(Settings(paths=PathTable(hide=(pattern,))), ws)


@pytest.mark.parametrize(
    ("access", "more", "expected"),
    [
        (CallExternal("web", "search", read_only=True), {}, Allow),
        (CallExternal("web", "search", read_only=True), {"approve": "untrusted"}, MustAsk),
        (CallExternal("web", "post"), {}, MustAsk),
        (CallExternal("web", "post"), {"approve": "never"}, Forbid),
        (CallExternal("docs", "post"), {"approve": "never"}, Allow),
        (CallExternal("mail", "read", read_only=True), {}, MustAsk),
        (CallExternal("shell", "run", read_only=True), {}, Forbid),
    ],
)
def test_tools_of_servers(ws: Path, access: CallExternal, more: dict[str, Any], expected: type) -> None:
    assert isinstance(judge(access, ws, **more), expected)


def test_a_call_with_several_wishes_gets_the_strictest_answer(ws: Path) -> None:
    policy = SandboxPolicy("workspace-write", (str(ws),))
    wishes = (WriteFiles((str(ws / "a"),)), WriteFiles(("/etc/x",)), RunCommand("git push --force", str(ws)))
    more: dict[str, Any] = {"approve": "on-request", "policy": policy, "rules": RULES, "cwd": ws}
    assert decide((), **more) == Allow()
    assert isinstance(decide(wishes[:2], **more), MustAsk)
    assert isinstance(decide(wishes, **more), Forbid)


def test_a_refusal_says_why_in_words_for_the_model(ws: Path) -> None:
    forbidden = judge(RunCommand("git push --force", str(ws)), ws)
    assert isinstance(forbidden, Forbid)
    assert "`git push --force`: Never." in forbidden.reason
    refused = judge(RunCommand("git tag v1", str(ws)), ws, approve="never")
    assert isinstance(refused, Forbid)
    assert "nobody is asked. Tags are for releases." in refused.reason


class Person:
    """Answers as told, and keeps the questions."""

    def __init__(self, *answers: ApprovalAnswer) -> None:
        self.answers = list(answers)
        self.questions: list[ApprovalQuestion] = []

    async def __call__(self, question: ApprovalQuestion) -> ApprovalAnswer:
        self.questions.append(question)
        await asyncio.sleep(0)
        return self.answers.pop(0)


def approvals(ws: Path, person: Person | None, rules: Rules = NO_RULES, mode: Any = "on-request") -> Approvals:
    return Approvals(mode, rules, ws, ws.parent / "home", person)


async def review(one: Approvals, access: Any, ws: Path, mode: Any = "workspace-write") -> tuple[bool, bool, str]:
    return tuple(await one.review((access,), policy=SandboxPolicy(mode, (str(ws),)), cwd=ws))[:4]


async def test_without_a_person_what_must_be_asked_is_refused_with_a_sentence(ws: Path) -> None:
    allowed, escalated, message, _ = await review(approvals(ws, None), RunCommand("git push", str(ws), True), ws)
    assert (allowed, escalated) == (False, False)
    assert "nobody is here" in message


async def test_once_is_once(ws: Path) -> None:
    person = Person(ApprovalAnswer("once"), ApprovalAnswer("no", "not now"))
    one = approvals(ws, person)
    wish = RunCommand("git push", str(ws), True, "to share it")
    assert await review(one, wish, ws) == (True, True, "", False)
    allowed, _, message, _ = await review(one, wish, ws)
    assert not allowed
    assert 'They said: "not now"' in message
    assert person.questions[0].reason == "to share it"
    assert person.questions[0].families == (("git", "push"),)


async def test_for_the_session_covers_the_family_and_nothing_beside_it(ws: Path) -> None:
    person = Person(ApprovalAnswer("session"), ApprovalAnswer("no"), ApprovalAnswer("no"))
    one = approvals(ws, person)
    assert (await review(one, RunCommand("git push", str(ws), True), ws))[0]
    assert (await review(one, RunCommand("git push origin main", str(ws), True), ws))[:2] == (True, True)
    assert not (await review(one, RunCommand("git pull", str(ws), True), ws))[0]
    assert not (await review(one, RunCommand("git push --force", str(ws), True), ws))[0]
    assert load_rules(RuleTables(), ws, ws.parent / "home").remembered == ()


async def test_without_a_family_the_session_covers_the_very_same_line_only(ws: Path) -> None:
    person = Person(ApprovalAnswer("session"), ApprovalAnswer("no"))
    one = approvals(ws, person)
    assert (await review(one, RunCommand("python -c 1", str(ws), True), ws))[0]
    assert (await review(one, RunCommand("python -c 1", str(ws), True), ws))[:2] == (True, True)
    assert person.questions[0].families == ()
    assert not (await review(one, RunCommand("python -c 2", str(ws), True), ws))[0]


async def test_for_the_project_is_kept_for_later_sessions(ws: Path) -> None:
    person = Person(ApprovalAnswer("project"))
    wish = RunCommand("cd src && npm run test -- -w | tail -3", str(ws), True)
    assert (await review(approvals(ws, person), wish, ws))[:2] == (True, True)
    later = load_rules(RuleTables(), ws, ws.parent / "home")
    assert later.remembered == (("npm", "run", "test"),)
    assert (await review(approvals(ws, None, later), wish, ws))[:2] == (True, True)


async def test_a_home_that_cannot_be_written_leaves_the_grant_for_the_session(ws: Path) -> None:
    (ws.parent / "home").write_text("a file in the way")
    person = Person(ApprovalAnswer("project"))
    one = Approvals("on-request", NO_RULES, ws, ws.parent / "home" / "x", person)
    allowed, _, message, _ = await review(one, RunCommand("git push", str(ws), True), ws)
    assert allowed
    assert "this session only" in message
    assert (await review(one, RunCommand("git push", str(ws), True), ws))[0]


async def test_questions_come_one_at_a_time_and_an_answer_settles_those_behind_it(ws: Path) -> None:
    person = Person(ApprovalAnswer("session"))
    one = approvals(ws, person)
    wishes = [RunCommand("git push", str(ws), True)] * 4
    outcomes = await asyncio.gather(*(review(one, wish, ws) for wish in wishes))
    assert [outcome[0] for outcome in outcomes] == [True] * 4
    assert len(person.questions) == 1


async def test_a_granted_write_leaves_the_sandbox_for_that_file_only(ws: Path) -> None:
    person = Person(ApprovalAnswer("session"), ApprovalAnswer("no"))
    one = approvals(ws, person)
    assert (await review(one, WriteFiles(("/etc/x",)), ws))[:2] == (True, True)
    assert (await review(one, WriteFiles(("/etc/x", str(ws / "a"))), ws))[:2] == (True, True)
    assert not (await review(one, WriteFiles(("/etc/y",)), ws))[0]


async def test_in_untrusted_mode_one_yes_covers_the_workspace(ws: Path) -> None:
    person = Person(ApprovalAnswer("session"), ApprovalAnswer("no"))
    one = approvals(ws, person, mode="untrusted")
    assert (await review(one, WriteFiles((str(ws / "a"),)), ws))[:2] == (True, False)
    assert (await review(one, WriteFiles((str(ws / "b"),)), ws))[:2] == (True, False)
    assert not (await review(one, WriteFiles(("/etc/y",)), ws))[0]


async def test_an_ordinary_confined_command_is_approved_without_reading_it(ws: Path) -> None:
    code = (
        "import asyncio, sys; from pathlib import Path; from lathe.agent.approvals import Approvals;"
        "from lathe.agent.rules import Rules; from lathe.sandbox.policy import SandboxPolicy;"
        "from lathe.tools.base import RunCommand; here = Path('/');"
        "one = Approvals('on-request', Rules(), here, here);"
        "run = one.review((RunCommand('make -j4 all', '/'),), policy=SandboxPolicy(), cwd=here);"
        "assert asyncio.run(run).allowed; assert 'lathe.guard.shell' not in sys.modules"
    )
    import sys

    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    assert await process.wait() == 0
