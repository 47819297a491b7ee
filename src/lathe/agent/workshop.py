"""The workshop: what one process puts together so that a thread can run: tools, sandbox, approvals, context."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from lathe.agent.approvals import Approvals, Ask
from lathe.agent.calls import CallRunner, CallWatch
from lathe.agent.compaction import Kept
from lathe.agent.context import system_prompt
from lathe.agent.guarding import Guarding
from lathe.agent.hiding import hidden, make_vault
from lathe.agent.instructions import NestedInstructions, load_instructions
from lathe.agent.oversight import Oversight
from lathe.agent.protection import missing, path_rules
from lathe.agent.rights import AskRights, RightsKnown, own_engagement
from lathe.agent.rules import load_rules
from lathe.agent.skills import explicit_skills, load_skills, skill_body
from lathe.agent.stopping import Stopper
from lathe.agent.thread import Surface
from lathe.agent.turn import TurnLimits
from lathe.agent.undo import tracker_for
from lathe.agent.watch import Watch
from lathe.config.paths import cache_home, project_root
from lathe.config.settings import Settings
from lathe.models.base import ModelClient, ModelRequest, Transcript
from lathe.models.catalogue import ModelInfo
from lathe.protocol.errors import ConfigError, LatheError
from lathe.protocol.events import FileUpdate
from lathe.protocol.items import FunctionCall, Item, user_message
from lathe.sandbox.environment import command_environment
from lathe.sandbox.keeping import recover as put_back_for_the_dead
from lathe.sandbox.ladder import tiers_down_to
from lathe.sandbox.limits import Limits
from lathe.sandbox.policy import SandboxPolicy
from lathe.store.baseline import baseline_tree, diff_since, keep_baseline
from lathe.store.threads import journal_path, patches
from lathe.tools.apply_patch import ApplyPatchTool
from lathe.tools.ask import AskUserTool
from lathe.tools.base import MalformedCall, Tool
from lathe.tools.exec import ExecCommandTool, WriteStdinTool
from lathe.tools.image import ViewImageTool
from lathe.tools.patch_recovery import recover
from lathe.tools.plan import UpdatePlanTool
from lathe.tools.sessions import CommandSessions

if TYPE_CHECKING:
    from lathe.sandbox.egress import Egress
    from lathe.tools.mcp_pool import McpPool


class Engine:
    """A model, ready to be asked. `name` and `provider` are what threads and people are told.

    `rights` asks the gateway what the key is entitled to, where the model is asked through one of Lathe's.
    """

    def __init__(
        self,
        client: ModelClient,
        info: ModelInfo,
        *,
        name: str,
        provider: str,
        secret_names: tuple[str, ...],
        rights: AskRights | None = None,
    ) -> None:
        self.client = client
        self.info = info
        self.name = name
        self.provider = provider
        self.secret_names = secret_names
        self.rights = rights


class Workshop:
    """Everything a thread's turns share in this process; `open` before the first, `aclose` after the last."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        *,
        home: Path,
        cwd: Path,
        spill: Path,
        environ: Mapping[str, str],
        ask_approval: Ask | None = None,
        ask_user: Callable[[str, tuple[str, ...]], Awaitable[str | None]] | None = None,
        output_schema: dict[str, Any] | None = None,
        deltas: bool = False,
    ) -> None:
        self.settings = settings
        self.engine = engine
        self.policy = policy_of(settings, cwd)
        self._home = home
        self._cwd = cwd
        self._spill = spill
        self._environ = environ
        self._deltas = deltas
        self._schema = output_schema
        self._plan = UpdatePlanTool()
        hidden = (str(home),)
        root = repository(cwd)
        self._approvals = Approvals(settings.approve, load_rules(settings.rules, root, home), root, home, ask_approval)
        egress, trust = self._way_out()
        secret = (*engine.secret_names, *(one.env for one in settings.egress.credentials.values()))
        self._sessions = CommandSessions(
            self.policy,
            cwd=cwd,
            env=command_environment(secret, cache_home(environ)) | trust,
            hidden=hidden,
            readable=(str(spill),),
            tiers=tiers_down_to(settings.sandbox_floor),
            limits=Limits(*msgspec.structs.astuple(settings.limits)),
            egress=egress,
            memory=home / "kept",
        )
        self.stopper = Stopper(self._sessions)
        self.oversight = Oversight(self.stopper, self.policy, cwd=cwd, home=home, settled=self._settled)
        self._tools: list[Tool] = [
            ExecCommandTool(self._sessions),
            WriteStdinTool(self._sessions),
            ApplyPatchTool(home / "patches", self._sessions.accept),
            self._plan,
            ViewImageTool(hidden),
        ]
        if ask_user is not None:
            self._tools.append(AskUserTool(ask_user))
        self._instructions = load_instructions(cwd, home, environ)
        self._skills = load_skills(cwd, home, environ, extra=[Path(folder) for folder in settings.skills])
        self._guard = self._make_guard()
        self._vault = make_vault(settings, home, environ, secret) if settings.hide_secrets else None
        self._nested = NestedInstructions(cwd, [file.path for file in self._instructions.files])
        self._pool: McpPool | None = None
        self._baseline: asyncio.Task[str | None] | None = None
        self._warm: asyncio.Task[None] | None = None
        self._watch: Watch | None = None
        self._unwatched = ""
        self._warned = self._judged = False
        self._unpublished: list[str] = []
        self._restored: list[str] = []

    def _make_guard(self) -> Guarding | None:
        """Return what judges calls before they run; raise `ConfigError` where its policy or engagement is none."""
        table, approvals = self.settings.guard, self._approvals
        if not table.enabled:
            return None
        strays, ask = self.oversight.before, self.engine.rights
        rights = RightsKnown(ask, own_engagement(table.engagement, self.policy) if ask is None else None)
        return Guarding(table, self._home, self.policy, can_ask=lambda: approvals.can_ask, strays=strays, rights=rights)

    def _way_out(self) -> tuple[Egress | None, dict[str, str]]:
        """Return how commands reach hosts one by one, None where they reach all, or none and nobody would ask."""
        table = self.settings.egress
        quiet = not (table.allow or table.publish) and self.engine.provider == "mend"
        if self.policy.network or self.policy.mode == "danger-full-access" or quiet:
            return None, {}
        from lathe.agent.reach import make_egress

        return make_egress(
            table, self._approvals, policy=self.policy, cwd=self._cwd, environ=self._environ, folder=self._spill
        )

    async def open(self, items: Sequence[Item] = ()) -> Surface:
        """Return the surface for turns of a thread whose transcript is `items` so far.

        The sandbox and the baseline are made beside the first request.
        """
        recover(self._home / "patches")
        self._restored = put_back_for_the_dead(self._home / "kept")
        self._recall_plan(items)
        if self.settings.mcp:
            await self._open_mcp()
        self._unpublished = self._sessions.publish(self.settings.egress.publish)
        self._warm = asyncio.create_task(self._sessions.start())
        if self.policy.mode != "read-only":
            self._baseline = asyncio.create_task(keep_baseline(self._cwd, self._spill / "baseline"))
        calls = CallRunner(
            self._tools,
            self._approvals,
            cwd=self._cwd,
            policy=self.policy,
            spill=self._spill,
            output_tokens=self.settings.tool_output_tokens,
            watch=self._watch_calls(),
            vault=self._vault,
            guard=self._guard,
            deltas=self._deltas,
            risky=self.oversight.risky,
        )
        info = self.engine.info
        request = ModelRequest(
            instructions=self._system_prompt(),
            tools=tuple(tool.spec for tool in self._tools),
            transcript=Transcript(),
            output_schema=self._schema,
            reasoning_effort=self.settings.reasoning_effort,
            max_output_tokens=self.settings.max_output_tokens,
        )
        return Surface(
            client=self.engine.client,
            request=request,
            calls=calls,
            limits=TurnLimits(window=info.context_window, compact_at=self.settings.compact_at),
            model=self.engine.name,
            provider=self.engine.provider,
            surroundings=self._surroundings,
            mentioned=self._mentioned,
            noticed=self._noticed,
            kept=self._kept,
            begin_turn=self._begin_turn,
            end_turn=self._end_turn,
            stopper=self.stopper,
            oversight=self.oversight,
            deltas=self._deltas,
        )

    async def aclose(self) -> None:
        """End everything that runs, and close what is open."""
        waiting = [task for task in (self._warm, self._baseline) if task is not None]
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        self.oversight.close()
        await self._sessions.aclose()
        if self._guard is not None:
            self._guard.close()
        if self._watch is not None:
            await self._watch.aclose()
            from lathe.agent.pruning import prune_if_due

            await asyncio.to_thread(prune_if_due, self._home)
        if self._pool is not None:
            await self._pool.aclose()
        await self.engine.client.aclose()

    @property
    def granted(self) -> set[tuple[str, ...]]:
        """What the person granted for this session, to be carried on when the model changes."""
        return self._approvals.granted

    @property
    def warnings(self) -> list[str]:
        """What a person should know about the instructions, skills and servers that were found."""
        problems = self._pool.problems() if self._pool is not None else ()
        unwatched = [self._unwatched] if self._unwatched else []
        absent = missing(self.settings, self.policy.paths)
        found = (*self._instructions.notes, *self._skills.warnings, *problems, *absent)
        return [*found, *unwatched, *self._unpublished, *self._restored]

    def new_warnings(self) -> list[str]:
        """Return the warnings that were not returned before; how strong the sandbox is shows only after its start."""
        found = [] if self._warned else self.warnings
        self._warned = True
        if not self._judged and self._sessions.tier:
            self._judged = True
            found += [weakness] if (weakness := self._sessions.weakness()) else []
        return [*found, *(self._watch.notices() if self._watch is not None else ())]

    async def _open_mcp(self) -> None:
        from lathe.tools.mcp import servers_from
        from lathe.tools.mcp_pool import McpPool

        self._pool = McpPool(servers_from(self.settings.mcp, "the configuration"), cwd=self._cwd)
        try:
            await self._pool.start()
            self._tools += await self._pool.tools()
        except BaseException:
            await self._pool.aclose()
            raise

    def _system_prompt(self) -> str:
        name = self.settings.instructions_file
        if name is None:
            return system_prompt()
        try:
            return (self._cwd / name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"The instructions_file {name} can't be read: {error}.") from None

    def _surroundings(self) -> dict[str, str]:
        self._instructions = load_instructions(self._cwd, self._home, self._environ)
        return {
            "cwd": str(self._cwd),
            "sandbox": describe(self.policy),
            "approvals": _APPROVALS[self.settings.approve],
            "shell": Path(self._environ.get("SHELL", "/bin/bash")).name,
            "date": datetime.datetime.now().astimezone().strftime("%Y-%m-%d %Z"),
            "instructions": self._instructions.text,
            "skills": self._skills.text,
        }

    def _recall_plan(self, items: Sequence[Item]) -> None:
        for item in reversed(items):
            if isinstance(item, FunctionCall) and item.name == self._plan.spec.name:
                with contextlib.suppress(MalformedCall):
                    self._plan.restore(self._plan.parse(item))
                    return

    def _mentioned(self, prompt: str) -> list[Item]:
        """Return the skills that the person named, whole."""
        return [
            user_message(
                f'<context_skill name="{skill.name}" path="{skill.path}">\n{skill_body(skill)}\n</context_skill>'
            )
            for skill in explicit_skills(prompt, self._skills.found)
        ]

    def _noticed(self, changes: Iterable[FileUpdate]) -> list[Item]:
        """Return the instruction files that hold for the folders of `changes` and were not told yet."""
        found = [file for change in changes for file in self._nested.instructions_for(self._cwd / change.path)]
        return [user_message(f"<context_instructions>\n{file.block()}\n</context_instructions>") for file in found]

    def _watch_calls(self) -> CallWatch | None:
        """Begin to watch the workspace, where commands may change it."""
        if self.policy.mode == "read-only":
            return None
        root = self.policy.writable_roots[0] if self.policy.writable_roots else str(self._cwd)
        if holds_home(Path(root)):
            self._unwatched = f"Turns can't be taken back: {root} is too much to look at before each call."
            return None
        tracker = tracker_for(self._home, root, self._spill.name)
        busy = self._sessions.open_processes
        self._watch = Watch(
            tracker, busy=lambda: bool(busy()), baseline=self._wait_for_baseline, writes=self._sessions.writes
        )
        self._watch.seen = self.oversight.seen
        self._watch.open()
        self._approvals.at_risk = self._watch.at_risk
        return self._watch

    def _begin_turn(self, turn: str) -> None:
        if self._watch is not None:
            self._watch.begin_turn(turn)

    async def _end_turn(self) -> None:
        await self._sessions.end_turn()
        if self._watch is not None:
            await self._watch.end_turn()

    async def _settled(self) -> None:
        if self._watch is not None:
            await self._watch.settled()

    async def _wait_for_baseline(self) -> None:
        if self._baseline is not None and not self._baseline.done():
            await asyncio.shield(asyncio.gather(self._baseline, return_exceptions=True))

    async def _kept(self) -> Kept:
        diff = await self._diff()
        kept = Kept(plan=self._plan.current_plan(), diff=diff, processes="\n".join(self._sessions.open_processes()))
        return hidden(kept, self._vault.hide) if self._vault is not None else kept

    async def _diff(self) -> str:
        """Return what changed since the thread began; where git can't say, what patches changed."""
        folder = self._spill / "baseline"
        self._sessions.settle()
        await self._wait_for_baseline()
        if self._baseline is not None and (tree := baseline_tree(folder)):
            with contextlib.suppress(LatheError):
                return (await diff_since(self._cwd, folder, tree)).decode(errors="replace")
        return "".join(change.diff for change in patches(journal_path(self._home, self._spill.name)))


_APPROVALS = {
    "never": "nobody can be asked; what would need an approval is refused",
    "on-request": "the person is asked when a call needs more than the sandbox allows",
    "untrusted": "the person is asked before every command that is not known to be harmless",
}


def policy_of(settings: Settings, cwd: Path) -> SandboxPolicy:
    """Return the sandbox policy that the settings mean for work in `cwd`.

    A repository is writable as a whole, but not where it is the person's home or holds it (dotfiles in git). Raises
    `ConfigError` where the workspace itself would hold the home folder, unless the settings say that it may.
    """
    root = project_root(cwd)
    if holds_home(root):
        root = cwd
    if holds_home(root) and settings.sandbox == "workspace-write" and not settings.whole_home:
        raise ConfigError(
            f"The workspace would be {root}, and all of your home folder writable with it.",
            hint="Go to the folder of the project, or say -c whole_home=true, or -s read-only.",
        )
    roots = [str(root), *(str((cwd / root).resolve()) for root in settings.writable_roots)]
    return SandboxPolicy(
        mode=settings.sandbox,
        writable_roots=tuple(dict.fromkeys(roots)),
        network=settings.network,
        hosts=settings.egress.allow,
        paths=path_rules(settings, root),
    )


def holds_home(folder: Path) -> bool:
    """Tell whether a folder is the person's home or holds it."""
    return Path.home().is_relative_to(folder)


def describe(policy: SandboxPolicy) -> str:
    """Return the policy in one line for the model."""
    network = "network on" if policy.network or policy.mode == "danger-full-access" else "network off"
    if policy.hosts and not policy.network:
        network = f"network off but for {', '.join(policy.hosts)}"
    match policy.mode:
        case "read-only":
            return f"read-only: commands can write nothing but /tmp; {network}"
        case "workspace-write":
            return f"workspace-write: {', '.join(policy.writable_roots)} and /tmp are writable; {network}"
        case _:
            return "none: commands run with the person's own rights; network on"


def repository(cwd: Path) -> Path | None:
    """Return the root of the git repository that holds `cwd`, or None where there is none."""
    root = project_root(cwd)
    return root if (root / ".git").exists() else None
