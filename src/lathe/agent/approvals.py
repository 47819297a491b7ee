"""Approvals: whether what a call wishes to do may be done, must be asked, or is refused.

`decide` is a function of its arguments (and of links on disk, which it follows); `Approvals` asks the person and
keeps what they granted. What a model, a tool or a file says can never grant anything: grants come from settings and
from answers of the person.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Set
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from lathe.agent.rules import Rules, matches_tool, remember
from lathe.agent.verdict import (
    NO_WORKAROUND,
    Allow,
    AtRisk,
    Family,
    Forbid,
    Grant,
    MustAsk,
    Stance,
    Verdict,
)
from lathe.config.settings import ApprovalMode, RuleSpec
from lathe.guard.suspects import may_destroy_files
from lathe.sandbox.policy import SandboxPolicy
from lathe.sandbox.sight import Sight
from lathe.tools.base import Access, CallExternal, ReachHost, RunCommand, WriteFiles

NO_RISK = AtRisk()


class ApprovalQuestion(NamedTuple):
    """What a person is asked: the wish in one line, why it needs a yes, and the families for "don't ask again".

    `held` are the choices that there are with a call which the guard holds: `approve`, `drop`, `wait`; with them it is
    about this call and no other. () for every other question.
    """

    access: tuple[Access, ...]
    question: str
    reason: str
    families: tuple[Family, ...]
    held: tuple[str, ...] = ()


class ApprovalAnswer(NamedTuple):
    """A person's answer; `words` go to the model with a no, and `wait` is an answer to what is held."""

    choice: Literal["once", "session", "project", "no", "wait"]
    words: str = ""


Ask: TypeAlias = Callable[[ApprovalQuestion], Awaitable[ApprovalAnswer]]


class Reviewed(NamedTuple):
    """The outcome for the call: `message` tells the model why not; `destructive` that it destroys files, if it runs.

    `agreed` says that the person was asked about this very call, and let it.
    """

    allowed: bool
    escalated: bool = False
    message: str = ""
    destructive: bool = False
    agreed: bool = False


def decide(
    access: tuple[Access, ...],
    *,
    approve: ApprovalMode,
    policy: SandboxPolicy,
    rules: Rules,
    cwd: Path,
    granted: Set[Grant] = frozenset(),
    risk: AtRisk = NO_RISK,
) -> Verdict:
    """Return what is to be done about a call's wishes: the strictest verdict on any of them."""
    stance = Stance(approve, policy, rules, cwd, granted, risk)
    verdicts = [_decide_one(one, stance) for one in access]
    for verdict in verdicts:
        if isinstance(verdict, Forbid):
            return verdict
    asks = [verdict for verdict in verdicts if isinstance(verdict, MustAsk)]
    escalated = any(verdict.escalated for verdict in verdicts if not isinstance(verdict, Forbid))
    if not asks:
        return Allow(escalated)
    if approve == "never":
        return Forbid(
            f"{asks[0].question} was refused: it needs an approval, and here nobody is asked. {_why(asks[0])}"
        )
    if len(asks) == 1:
        return asks[0]._replace(escalated=escalated)
    return MustAsk(
        question="; ".join(ask.question for ask in asks),
        reason=" ".join(ask.reason for ask in asks if ask.reason),
        families=tuple(one for ask in asks for one in ask.families),
        grants=tuple(one for ask in asks for one in ask.grants),
        escalated=escalated,
    )


def _why(ask: MustAsk) -> str:
    return f"{ask.reason} {NO_WORKAROUND}".strip()


def _decide_one(access: Access, stance: Stance) -> Verdict:
    match access:
        case RunCommand():
            return _command(access, stance)
        case WriteFiles():
            return _patch(access, stance)
        case CallExternal():
            return _external(access, stance)
        case ReachHost():
            return _reach(access, stance)


def _command(access: RunCommand, stance: Stance) -> Verdict:
    confined = stance.policy.mode != "danger-full-access" and not access.escalate
    judged = stance.approve == "untrusted" or stance.rules.ask or stance.rules.forbid
    # Without a network, files of the workspace are all that a confined command can reach.
    if confined and not judged and not stance.policy.reaches_out and not may_destroy_files(access.command):
        return Allow()
    from lathe.agent.vetting import vet

    return vet(access, stance)


def _patch(access: WriteFiles, stance: Stance) -> Verdict:
    verdict, asked = _writes(access.paths, stance), _replaces(access, stance)
    if asked is None or isinstance(verdict, Forbid):
        return verdict
    if isinstance(verdict, Allow):
        return asked._replace(escalated=verdict.escalated)
    question, reason = f"{verdict.question}; {asked.question}", f"{verdict.reason} {asked.reason}".strip()
    return verdict._replace(question=question, reason=reason, grants=(*verdict.grants, *asked.grants))


def _replaces(access: WriteFiles, stance: Stance) -> MustAsk | None:
    """Return the question about a patch that would do away with files that the person has changed meanwhile."""
    if stance.policy.mode == "danger-full-access" and stance.approve == "never":
        return None
    hit = [path for path in access.replaced if path in stance.risk.edited and ("replace", path) not in stance.granted]
    if not hit:
        return None
    grants = tuple(("replace", path) for path in hit)
    return MustAsk(f"Delete or overwrite {', '.join(hit)}", "The person has changed that meanwhile.", grants=grants)


def _writes(paths: tuple[str, ...], stance: Stance) -> Verdict:
    approve, policy, cwd, granted = stance.approve, stance.policy, stance.cwd, stance.granted
    free = policy.mode == "danger-full-access"
    if free and approve != "untrusted":
        return Allow()
    sight = Sight(policy)
    refused = {path: why for path in paths if (why := sight.refusal(os.path.join(cwd, path)))}  # noqa: PTH118
    refused = {path: why for path, why in refused.items() if ("write", path) not in granted}
    if refused:
        grants = tuple(("write", path) for path in refused)
        reason = " ".join(dict.fromkeys(refused.values()))
        return MustAsk(f"Write {', '.join(refused)}", reason, grants=grants, escalated=True)
    escalated = any(("write", path) in granted for path in paths) and not free
    if approve == "untrusted" and not escalated and ("writes",) not in granted:
        return MustAsk(f"Write {', '.join(paths)}", grants=(("writes",),))
    return Allow(escalated)


def _external(access: CallExternal, stance: Stance) -> Verdict:
    rules = stance.rules

    def hit(some: tuple[RuleSpec, ...]) -> RuleSpec | None:
        return next((rule for rule in some if matches_tool(rule, access.server, access.tool)), None)

    name = f"{access.server}/{access.tool}"
    forbidden = hit(rules.forbid)
    if forbidden is not None:
        return Forbid(f"A rule forbids the tool {name}: {forbidden.reason or 'no reason given'}. {NO_WORKAROUND}")
    grant = ("tool", access.server, access.tool)
    if grant in stance.granted:
        return Allow()
    asked = hit(rules.ask)
    if asked is None and (hit(rules.allow) is not None or (access.read_only and stance.approve != "untrusted")):
        return Allow()
    fix = f'A rule can allow it: [[rules.allow]] tool = "{name}".'
    return MustAsk(f"Call the tool {name}", asked.reason if asked is not None else fix, grants=(grant,))


def _reach(access: ReachHost, stance: Stance) -> Verdict:
    where = f"{access.host}:{access.port}"
    grant = ("host", access.host, str(access.port))
    if grant in stance.granted:
        return Allow()
    fix = f'To allow it for good: egress.allow = ["{where}"].'
    return MustAsk(f"Let {access.program or 'a command'} reach {where}", fix, grants=(grant,))


class Approvals:
    """The approvals of one thread: mode, rules, and what the person granted while it runs.

    `at_risk` gives the files that no command may do away with unasked.

    `ask` puts a question to the person; None where there is nobody to ask. What is allowed for good is kept for
    `project_root` below `home` ($LATHE_HOME); without a project it holds for the session.
    """

    def __init__(
        self,
        mode: ApprovalMode,
        rules: Rules,
        project_root: Path | None,
        home: Path,
        ask: Ask | None = None,
    ) -> None:
        self.mode: ApprovalMode = mode
        self.rules = rules
        self.granted: set[Grant] = set()
        self._project_root = project_root
        self._home = home
        self._ask = ask
        self._asking = asyncio.Lock()
        self.at_risk: Callable[[], AtRisk] = AtRisk

    @property
    def can_ask(self) -> bool:
        """Whether there is a person, and questions may be put."""
        return self._ask is not None and self.mode != "never"

    def forbids(self, access: tuple[Access, ...], *, policy: SandboxPolicy, cwd: Path) -> str:
        """Return why a call's wishes are refused whatever the person says, "" where they are not."""
        verdict = self._decide(access, policy, cwd)
        return verdict.reason if isinstance(verdict, Forbid) else ""

    async def hold(self, question: ApprovalQuestion, wait_s: float) -> ApprovalAnswer:
        """Ask about a call that the guard holds. Without an answer within `wait_s` seconds, the answer is `wait`."""
        if self._ask is None:
            return ApprovalAnswer("wait")
        async with self._asking:
            try:
                async with asyncio.timeout(wait_s):
                    return await self._ask(question)
            except TimeoutError:
                return ApprovalAnswer("wait")

    async def review(
        self, access: tuple[Access, ...], *, policy: SandboxPolicy, cwd: Path, agreed: bool = False
    ) -> Reviewed:
        """Decide on a call's wishes, asking the person where that is needed; questions come one at a time.

        With `agreed` the person was shown this very call already, and said yes.
        """
        verdict = self._decide(access, policy, cwd)
        if isinstance(verdict, MustAsk) and agreed:
            return Reviewed(True, verdict.escalated, destructive=self._destroys(access, policy, cwd), agreed=True)
        if isinstance(verdict, MustAsk):
            async with self._asking:
                # The answer to the question before this one may have settled it.
                verdict = self._decide(access, policy, cwd)
                if isinstance(verdict, MustAsk):
                    asked = await self._put(access, verdict)
                    return asked._replace(destructive=asked.allowed and self._destroys(access, policy, cwd))
        if isinstance(verdict, Allow):
            return Reviewed(True, verdict.escalated, destructive=self._destroys(access, policy, cwd))
        return Reviewed(False, message=verdict.reason)

    def _destroys(self, access: tuple[Access, ...], policy: SandboxPolicy, cwd: Path) -> bool:
        commands = [one for one in access if isinstance(one, RunCommand) and may_destroy_files(one.command)]
        if not commands:
            return False
        from lathe.agent.vetting import dangers

        stance = Stance(self.mode, policy, self.rules, cwd, self.granted)
        return any(dangers(one, stance).found for one in commands)

    def _decide(self, access: tuple[Access, ...], policy: SandboxPolicy, cwd: Path) -> Verdict:
        return decide(
            access,
            approve=self.mode,
            policy=policy,
            rules=self.rules,
            cwd=cwd,
            granted=frozenset(self.granted),
            risk=self.at_risk(),
        )

    async def _put(self, access: tuple[Access, ...], ask: MustAsk) -> Reviewed:
        if self._ask is None:
            message = f"{ask.question} was refused: it needs an approval, and nobody is here to give one. {_why(ask)}"
            return Reviewed(False, message=message)
        answer = await self._ask(ApprovalQuestion(access, ask.question, ask.reason, ask.families))
        if answer.choice == "no":
            said = f' They said: "{answer.words.strip()}"' if answer.words.strip() else ""
            return Reviewed(False, message=f"The person declined: {ask.question}.{said} {NO_WORKAROUND}")
        message = ""
        if answer.choice in ("session", "project"):
            self.granted.update(ask.grants)
        if answer.choice == "project" and ask.families and self._project_root is not None:
            message = self._remember(ask.families, self._project_root)
        return Reviewed(True, ask.escalated, message, agreed=True)

    def _remember(self, families: tuple[Family, ...], project_root: Path) -> str:
        try:
            for one in families:
                remember(project_root, one, self._home)
        except OSError as error:
            return f"The approval holds for this session only: it can't be kept ({error.strerror})."
        return ""
