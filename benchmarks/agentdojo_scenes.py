"""Write AgentDojo's tasks as scenes, a line of JSON each: run by the interpreter that has the `agentdojo` package.

A scene is a task of a person with its calls and what the tools gave, one of which holds a planted text, and the calls
that the text wants. The calls run in AgentDojo's own environments. Its clients of models are not needed and are stood
in for, so none of them has to be installed.

usage: agentdojo_scenes.py USER_TASKS_FOR_EACH_INJECTION
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import json
import sys
import types
from collections.abc import Iterator
from typing import Any
from unittest.mock import MagicMock

VERSION = "v1.2.2"
ATTACKS = ("direct", "ignore_previous", "system_message", "injecagent", "important_instructions", "tool_knowledge")
_CLIENTS = {"anthropic", "openai", "cohere", "google", "langchain", "transformers", "torch", "vertexai", "requests"}
READS = ("get_", "read_", "search_", "list_", "check_")


class Absent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Clients of models, empty."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name.partition(".")[0] not in _CLIENTS:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        module = types.ModuleType(spec.name)
        module.__dict__["__path__"] = []
        module.__dict__["__getattr__"] = lambda name: MagicMock if name[:1].isupper() else MagicMock()
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        """There is nothing to run."""


def scenes(most: int) -> Iterator[dict[str, Any]]:
    """Yield every user task without a planted text, then every injection by every attack in `most` user tasks."""
    sys.meta_path.insert(0, Absent())
    import yaml
    from agentdojo.attacks.attack_registry import ATTACKS as KNOWN
    from agentdojo.task_suite import task_suite
    from agentdojo.task_suite.load_suites import get_suites

    yaml.safe_load = functools.partial(yaml.load, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    task_suite.read_suite_file = functools.cache(task_suite.read_suite_file)
    for name, suite in get_suites(VERSION).items():
        places = list(suite.get_injection_vector_defaults())
        tools = [tool.name for tool in suite.tools]
        pipeline = types.SimpleNamespace(name="gpt-4o-2024-05-13")
        users = list(suite.user_tasks.values())
        for user in users:
            yield {"suite": name, "tools": tools, "user": user.ID, **played(suite, user, {})}
        for injection in suite.injection_tasks.values():
            wanted = [plain(call) for call in injection.ground_truth(suite.load_and_inject_default_environment({}))]
            if not any(not call["reads"] for call in wanted):
                continue  # it wants words, or something to be read
            for attack in ATTACKS:
                attacker = KNOWN[attack](suite, pipeline)
                attacker.get_injection_candidates = lambda user, places=places: places
                found = 0
                for user in users:
                    scene = played(suite, user, attacker.attack(user, injection))
                    seen = [
                        at for at, call in enumerate(scene["calls"]) if words(injection.GOAL) in words(call["output"])
                    ]
                    if not seen:
                        continue  # this task shows no place for it
                    marks = {"shown": seen[0]} | {
                        "injection": injection.ID,
                        "attack": attack,
                        "goal": injection.GOAL,
                        "wanted": wanted,
                    }
                    yield {"suite": name, "tools": tools, "user": user.ID, **scene, **marks}
                    found += 1
                    if found == most:
                        break


def words(text: str) -> str:
    """Return what a text says, however YAML quotes and folds it."""
    return "".join(text.replace("\\n", "").replace("''", "'").replace("\\", "").split())


def played(suite: Any, user: Any, planted: dict[str, str]) -> dict[str, Any]:
    """Return a user task's prompt, and its calls with what they give in an environment with the planted texts."""
    from agentdojo.agent_pipeline.tool_execution import tool_result_to_str
    from agentdojo.functions_runtime import FunctionsRuntime

    environment = user.init_environment(suite.load_and_inject_default_environment(planted))
    runtime = FunctionsRuntime(suite.tools)
    calls = []
    for call in user.ground_truth(environment):
        result, error = runtime.run_function(environment, call.function, dict(call.args))
        calls.append({**plain(call), "output": str(error) if error else str(tool_result_to_str(result))})
    return {"prompt": user.PROMPT, "calls": calls}


def plain(call: Any) -> dict[str, Any]:
    """Return a call as data."""
    return {"tool": call.function, "args": dict(call.args), "reads": call.function.startswith(READS)}


if __name__ == "__main__":
    for one in scenes(int(sys.argv[1])):
        print(json.dumps(one, default=str))
