"""Lathe as an agent of Harbor: `harbor run --agent lathe.evals.harnesses.harbor:LatheAgent`.

Harbor (https://harborframework.com, 0.26 at the time of writing) needs Python 3.12 and is no dependency of Lathe: only
this file imports it.
"""

from __future__ import annotations

import asyncio
import shlex
import tempfile
from pathlib import Path
from typing import Any

from harbor.agents.capabilities import AgentCapabilities
from harbor.agents.installed.base import (
    AgentSafetyRefusalError,
    BaseInstalledAgent,
    NetworkConnectionError,
    NonZeroAgentExitCodeError,
    with_prompt_template,
)
from harbor.agents.options import InstalledAgentOptions
from harbor.environments.base import BaseEnvironment
from harbor.models.agent.context import AgentContext
from pydantic import Field

from lathe.evals.harnesses import invocation
from lathe.evals.harnesses.wheel import make_wheel
from lathe.protocol.errors import ConfigError, ExitCode

EVENTS = "events.jsonl"
MESSAGES = "messages.log"
TRAJECTORY = "trajectory.json"
_PLACE = "/installed-agent/lathe"
_FAILURES: dict[int, type[Exception]] = {
    ExitCode.SAFEGUARD: AgentSafetyRefusalError,
    ExitCode.UNREACHABLE: NetworkConnectionError,
}
"""Harbor's types for these ends: it tries the second one again, and never the first."""


class LatheOptions(InstalledAgentOptions):
    """What `--agent-kwarg NAME=VALUE` can say; the gateway's key is none of it, for Harbor writes options down."""

    gateway_url: str | None = Field(default=None, description="Gateway as containers reach it. Else LATHE_GATEWAY_URL.")
    wire: str = Field(default="responses", description="What it speaks: responses, chat or messages.")
    wheel: str | None = Field(default=None, description="Wheel of Lathe to install. Else one of the running Lathe.")


class LatheAgent(BaseInstalledAgent):
    """`lathe exec` in the task's container: with a model behind a gateway, or with the embedded engine and none.

    `--model PROVIDER/NAME` asks the gateway for NAME; without a model, or with `mend`, no model is asked. The key is
    that in LATHE_GATEWAY_KEY, from `--agent-env` or from Harbor's own environment.
    """

    options_model = LatheOptions
    options: LatheOptions
    capabilities = AgentCapabilities(atif=True)

    @staticmethod
    def name() -> str:
        """Return the agent's name in Harbor's results."""
        return "lathe"

    def get_version_command(self) -> str:
        """Return what prints the version that is installed in the container."""
        return f"{invocation.FOLDER}/bin/lathe --version"

    def parse_version(self, stdout: str) -> str:
        """Return the version in what that printed."""
        return stdout.split()[-1]

    @property
    def _model(self) -> str:
        """The gateway's name of the model: what follows Harbor's provider."""
        asked = self.model_name or invocation.MEND
        return asked.partition("/")[2] or asked

    def _endpoint(self) -> invocation.Endpoint | None:
        if self._model == invocation.MEND:
            return None
        url = self.options.gateway_url or self._get_env("LATHE_GATEWAY_URL")
        if not url or not self._get_env("LATHE_GATEWAY_KEY"):
            raise ConfigError(
                f"The model {self.model_name} needs a gateway and its key.",
                hint="Give --agent-kwarg gateway_url=URL, and LATHE_GATEWAY_KEY in the environment.",
            )
        base = url.rstrip("/")
        return invocation.Endpoint(base if base.endswith("/v1") else f"{base}/v1", self.options.wire)

    async def install(self, environment: BaseEnvironment) -> None:
        """Put Lathe into the container: a wheel, and a Python for it where the image has none that will do."""
        with tempfile.TemporaryDirectory(prefix="lathe-harbor-") as folder:
            wheel = (
                Path(self.options.wheel) if self.options.wheel else await asyncio.to_thread(make_wheel, Path(folder))
            )
            await self.exec_as_root(environment, f"mkdir -p {_PLACE}")
            await environment.upload_file(wheel, f"{_PLACE}/{wheel.name}")
            await environment.upload_file(invocation.INSTALL, f"{_PLACE}/{invocation.INSTALL.name}")
        await self.exec_as_root(environment, shlex.join(invocation.install(_PLACE, wheel.name, self._model)))

    @with_prompt_template
    async def run(self, instruction: str, environment: BaseEnvironment, context: AgentContext) -> None:
        """Work on the task; raise one of Harbor's errors where Lathe did not come to an end of its own."""
        endpoint = self._endpoint()
        await self._tell(environment, "instruction.md", instruction)
        await self._tell(environment, "config/lathe/config.toml", invocation.settings(endpoint))
        logs = self.environment_logs_dir.as_posix()
        # What undo keeps is bytes of the task's files: only the threads are for the logs, from their first line on.
        threads = f"mkdir -p {logs}/lathe/threads && ln -sfn {logs}/lathe/threads {_PLACE}/lathe/threads"
        await self.exec_as_root(environment, f"mkdir -p {_PLACE}/lathe && chmod 777 {_PLACE}/lathe")
        await self.exec_as_agent(environment, threads)
        line = f"{shlex.join(invocation.command(self._model))} <{_PLACE}/instruction.md"
        env = invocation.environ(_PLACE, (self._get_env("LATHE_GATEWAY_KEY") or "") if endpoint else "")
        ran = await environment.exec(f"{line} >{logs}/{EVENTS} 2>{logs}/{MESSAGES}", env=env)
        if ran.return_code:
            said = await environment.exec(f"tail -c 600 {logs}/{MESSAGES}")
            why = (said.stdout or ran.stderr or "").strip() or "It said nothing."
            kind = _FAILURES.get(ran.return_code, NonZeroAgentExitCodeError)
            raise kind(f"lathe exec ended with exit code {ran.return_code}: {why}")

    async def _tell(self, environment: BaseEnvironment, name: str, text: str) -> None:
        path = f"{_PLACE}/{name}"
        await self.exec_as_root(environment, f"mkdir -p {shlex.quote(str(Path(path).parent))}")
        await self._upload_config_text(environment, content=text, remote_path=path, filename=Path(name).name)

    def populate_context_post_run(self, context: AgentContext) -> None:
        """Write the thread's trajectory beside it, and tell Harbor what models took."""
        from lathe.evals import atif

        journals = sorted((self.logs_dir / "lathe").rglob("*.jsonl"), key=lambda path: path.stat().st_mtime)
        if not journals:
            self.logger.warning("Lathe left no thread; see %s", self.logs_dir / MESSAGES)
            return
        trajectory = atif.from_thread(journals[-1])
        (self.logs_dir / TRAJECTORY).write_bytes(atif.write(trajectory))
        if (totals := trajectory.final_metrics) is not None:
            context.n_input_tokens = totals.total_prompt_tokens
            context.n_cache_tokens = totals.total_cached_tokens
            context.n_output_tokens = totals.total_completion_tokens
            context.cost_usd = totals.total_cost_usd
        context.metadata = {"thread": str(journals[-1].relative_to(self.logs_dir)), **_told(totals)}


def _told(totals: Any) -> dict[str, Any]:
    return {"steps": totals.total_steps} if totals is not None and totals.total_steps is not None else {}
