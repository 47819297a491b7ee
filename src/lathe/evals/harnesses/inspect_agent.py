"""Lathe as an agent of Inspect: `inspect eval task.py --solver lathe/agent`.

It works in the sample's sandbox, and asks the eval's own model by Inspect's bridge, so that Inspect counts tokens,
holds limits and logs every request (https://inspect.aisi.org.uk/agent-bridge.html).
"""

from __future__ import annotations

import asyncio
import random
import shlex
import tempfile
from pathlib import Path
from typing import Literal

from inspect_ai.agent import Agent, AgentState, agent, sandbox_agent_bridge
from inspect_ai.model import ChatMessageAssistant, ModelOutput
from inspect_ai.util import (
    ExecRemoteAwaitableOptions,
    SandboxEnvironment,
    SandboxUserUnsupportedError,
    sandbox,
    store,
)

from lathe.evals.harnesses import invocation
from lathe.evals.harnesses.wheel import make_wheel
from lathe.protocol.errors import ExitCode
from lathe.protocol.ids import short_id

INSTALL_S = 900
THREAD = "lathe:thread"
"""The key of the sample's store under which the thread lies: a journal that `lathe resume` can open."""
_LARGEST_THREAD = 8 * 2**20
_PORTS = (20_000, 32_000)
"""Of these the bridge gets one: samples in the `local` sandbox share the machine's."""


@agent(name="agent")
def lathe_agent(
    engine: Literal["model", "mend"] = "model",
    program: str = "",
    wheel: str = "",
    user: str | None = None,
    cwd: str | None = None,
) -> Agent:
    """Return an agent that runs `lathe exec` on the sample's input.

    `engine` is the eval's model, or `mend`, the embedded engine that asks none. `program` is a Lathe that the sandbox
    has already; else one is installed in there, from `wheel` or the running Lathe. `user` and `cwd` are the sandbox's
    own where nothing is said.
    """

    async def execute(state: AgentState) -> AgentState:
        box = sandbox()
        lathe = program or await _install(box, wheel, engine)
        home = f"/tmp/{short_id('lathe')}"
        run = _Run(box, lathe, home, _prompt(state), user=user, cwd=cwd)
        if engine == invocation.MEND:
            answer = await run.finish(invocation.MEND, None)
            state.messages.append(ChatMessageAssistant(content=answer, model="lathe/mend", source="generate"))
            state.output = ModelOutput.from_content("lathe/mend", answer)
            return state
        async with sandbox_agent_bridge(state, port=random.randrange(*_PORTS)) as bridge:
            endpoint = invocation.Endpoint(f"http://127.0.0.1:{bridge.port}/v1")
            await run.finish("inspect", endpoint)
        return bridge.state

    return execute


class LatheFailed(RuntimeError):
    """Lathe could not work at all: the sample is in error, and not the agent's failure."""


class _Run:
    """One call of `lathe exec` in a sandbox, and what it leaves there."""

    def __init__(
        self, box: SandboxEnvironment, program: str, home: str, prompt: str, *, user: str | None, cwd: str | None
    ) -> None:
        self._box = box
        self._program = program
        self._home = home
        self._user = user
        self._cwd = cwd
        self._prompt = prompt

    async def finish(self, model: str, endpoint: invocation.Endpoint | None) -> str:
        """Run it to its end, keep its thread, and return its last words; raise `LatheFailed`."""
        box, home = self._box, self._home
        await box.exec(["mkdir", "-p", f"{home}/config/lathe"], user=self._user)
        await box.write_file(f"{home}/config/lathe/config.toml", invocation.settings(endpoint))
        line = shlex.join([self._program, *invocation.command(model)[1:]])
        ran = await box.exec_remote(
            ["/bin/sh", "-c", f"exec {line} >{home}/events.jsonl 2>{home}/messages.log"],
            ExecRemoteAwaitableOptions(
                input=self._prompt,
                cwd=self._cwd,
                env=invocation.environ(home, "inspect" if endpoint else ""),
                user=self._user,
            ),
            stream=False,
        )
        await self._keep_thread()
        if ran.returncode in (ExitCode.USAGE, ExitCode.UNREACHABLE, 126, 127):
            said = await self._read("messages.log") or ran.stderr or "It said nothing."
            raise LatheFailed(f"lathe exec ended with exit code {ran.returncode}: {said.strip()[-600:]}")
        return invocation.last_words(await self._read("events.jsonl"))

    async def _read(self, name: str) -> str:
        try:
            text: str = await self._box.read_file(f"{self._home}/{name}")
        except FileNotFoundError:
            return ""
        return text

    async def _keep_thread(self) -> None:
        found = await self._box.exec(["find", f"{self._home}/lathe", "-name", "*.jsonl", "-type", "f"])
        for path in found.stdout.splitlines()[:1]:
            text = await self._box.read_file(path)
            if len(text) <= _LARGEST_THREAD:
                store().set(THREAD, text)


async def _install(box: SandboxEnvironment, wheel: str, model: str) -> str:
    """Return the path of Lathe in the sandbox, having installed it where it is not there; raise `LatheFailed`."""
    program = f"{invocation.FOLDER}/bin/lathe"
    if (await box.exec(["test", "-x", program])).success:
        return program
    with tempfile.TemporaryDirectory(prefix="lathe-inspect-") as folder:
        made = Path(wheel) if wheel else await asyncio.to_thread(make_wheel, Path(folder))
        there = f"/tmp/{short_id('install')}"
        await box.write_file(f"{there}/{made.name}", made.read_bytes())
    await box.write_file(f"{there}/{invocation.INSTALL.name}", invocation.INSTALL.read_text(encoding="utf-8"))
    command = invocation.install(there, made.name, model)
    try:
        ran = await box.exec(command, user="root", timeout=INSTALL_S)
    except SandboxUserUnsupportedError:
        ran = await box.exec(command, timeout=INSTALL_S)
    if not ran.success:
        raise LatheFailed(f"Lathe could not be installed in the sandbox: {(ran.stderr or ran.stdout).strip()[-600:]}")
    return program


def _prompt(state: AgentState) -> str:
    """Return what the sample says, as one text: Lathe keeps its own conversation."""
    said = [one.text for one in state.messages if one.role in ("system", "user") and one.text.strip()]
    return "\n\n".join(said)
