"""What Harbor's own models make of tasks, beside what ours make of them.

usage: python tests/evals/harbor_agreement.py FOLDER...    compares all tasks in the folders; exit 1 where one differs
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from harnesses import harbor_python

from lathe.evals.formats.harbor import read_dataset
from lathe.evals.formats.harbor_toml import NO_LIMIT_S
from lathe.evals.task import Network, Resources, Task

_MODES = {"none": "no-network"}

# Runs under Harbor's own Python: 3.12 or later.
_READER = """
import json, sys, warnings
warnings.simplefilter("ignore")
from pathlib import Path
from harbor.models.task.task import Task
from harbor.utils.env import resolve_env_vars

def policy(found):
    return None if found is None else [found.network_mode.value, list(found.allowed_hosts)]

def facts(folder):
    task = Task(folder)
    config = task.config
    place = config.environment
    return {
        "name": task.short_name, "instruction": task.instruction, "image": place.docker_image or "",
        "cpus": place.cpus, "memory": place.memory_mb, "disk": place.storage_mb, "gpus": place.gpus,
        "build_s": place.build_timeout_sec, "agent_s": config.agent.timeout_sec,
        "verifier_s": config.verifier.timeout_sec,
        "workdir": place.workdir or "", "env": resolve_env_vars(place.env),
        "verifier_env": resolve_env_vars(config.verifier.env), "solution_env": resolve_env_vars(config.solution.env),
        "user": config.agent.user, "verifier_user": config.verifier.user, "network": policy(place.resolve_baseline()),
        "agent_network": policy(config.agent.explicit_phase_policy()),
        "verifier_network": policy(config.verifier.explicit_phase_policy()),
        "health": place.healthcheck and place.healthcheck.model_dump(),
    }

for folder in json.load(sys.stdin):
    try:
        print(json.dumps(facts(Path(folder))))
    except Exception as error:
        print(json.dumps({"refused": str(error)[:200]}))
"""


def harbor_facts(folders: list[Path], environment: dict[str, str] | None = None) -> list[dict[str, Any]]:
    done = subprocess.run(
        [harbor_python(), "-c", _READER],
        input=json.dumps([str(folder) for folder in folders]),
        env={**os.environ, **(environment or {})},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [json.loads(line) for line in done.stdout.splitlines()]


def _policy(network: Network | None) -> list[Any] | None:
    return None if network is None else [_MODES.get(network.mode, network.mode), list(network.hosts)]


def own_facts(task: Task, theirs: dict[str, Any]) -> dict[str, Any]:
    """Our reading in Harbor's words. Where Harbor leaves a limit to its provider, ours is the usual one."""
    place, verifier, usual = task.environment, task.verifier, Resources()
    resources = place.resources
    health = place.healthcheck

    def left(name: str, value: Any, default: Any) -> Any:
        return None if theirs.get(name) is None and value == default else value

    def user(name: str, value: str) -> Any:
        return type(theirs[name])(value) if theirs.get(name) is not None else value or None

    return {
        "name": task.name, "instruction": task.instruction, "image": place.image,
        "cpus": left("cpus", resources.cpus, usual.cpus),
        "memory": left("memory", resources.memory_mb, usual.memory_mb),
        "disk": left("disk", resources.disk_mb, usual.disk_mb), "gpus": left("gpus", resources.gpus, 0),
        "build_s": place.build_timeout_s, "agent_s": left("agent_s", task.agent_timeout_s, NO_LIMIT_S),
        "verifier_s": verifier.timeout_s, "workdir": place.workdir, "env": place.env, "verifier_env": verifier.env,
        "solution_env": task.solution_env, "user": user("user", place.user),
        "verifier_user": user("verifier_user", verifier.user), "network": _policy(place.network),
        "agent_network": _policy(task.agent_network), "verifier_network": _policy(verifier.network),
        "health": health and {
            "command": health.command, "interval_sec": health.interval_s, "timeout_sec": health.timeout_s,
            "start_period_sec": health.start_period_s, "start_interval_sec": health.start_interval_s,
            "retries": health.retries,
        },
    }  # fmt: skip


def differences(folder: Path, given: dict[str, str] | None = None) -> dict[str, str]:
    """Return by folder name where the two readings of its tasks differ, or one refuses what the other takes."""
    dataset = read_dataset(folder, given=given)
    unread = dict(dataset.unread)
    tasks = {task.source.name: task for task in dataset.tasks if task.source is not None}
    names = sorted({*tasks, *unread})
    found = {}
    for name, theirs in zip(names, harbor_facts([folder / name for name in names], given), strict=True):
        if name in unread or "refused" in theirs:
            if (name in unread) != ("refused" in theirs):
                found[name] = f"Lathe: {unread.get(name, 'read')} Harbor: {theirs.get('refused', 'read')}"
            continue
        ours = own_facts(tasks[name], theirs)
        wrong = [f"{key}: {ours[key]!r}, Harbor {theirs[key]!r}" for key in theirs if ours[key] != theirs[key]]
        if wrong:
            found[name] = "; ".join(wrong)
    return found


def main() -> int:
    total, wrong = 0, 0
    for folder in map(Path, sys.argv[1:]):
        found = differences(folder)
        total += len(read_dataset(folder).tasks)
        wrong += len(found)
        for name, why in found.items():
            print(f"{name}: {why}")
    print(f"{total} tasks read, {wrong} differ from Harbor's reading")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
