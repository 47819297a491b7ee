"""What an agent costs beside its model: a scripted server answers at once, and asks for `true` again and again.

Per agent: the gap between two model requests, CPU for a call, wall, time to the first request, peak memory of
the whole process tree. Lathe, the bare aiohttp loop and every peer that is installed run in the same minutes,
turn by turn. `--install` puts the bare loop's library and the peers below `.bench/`.

usage: agent_overhead.py [--check] [--json] [--rounds N] [--quick] [--only NAME ...] [--install]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from measuring import Measured, measure, median, table

ROOT = Path(__file__).resolve().parent.parent
BENCH = ROOT / ".bench"
BARS = {
    "gap_ratio": 2.0,  # to the bare aiohttp loop, same run
    "gap_flat": 1.35,  # last ten to first ten of 500 calls
    "cpu_ms": 61 / 4,  # a quarter of Codex CLI 0.169, unsandboxed
    "cpu_ms_sandboxed": 125 / 4,
    "peak_mb": 60.0,
    "version_ratio": 3.0,  # to `python3 -c pass`, CPU
    "first_request_s": 0.54,  # the quickest peer as measured in LIBRARIES; a peer that ran here counts too
}


class Agent(NamedTuple):
    """How to run one agent. `command` makes the command line from the base URL and a scratch folder."""

    name: str
    tool: str
    argument: str
    command: Callable[[str, Path], list[str]]
    env: Callable[[str, Path], dict[str, str]] = lambda url, scratch: {}
    side_answers: bool = False


def lathe(mode: str) -> Callable[[str, Path], list[str]]:
    def command(url: str, scratch: Path) -> list[str]:
        program = str(Path(sys.executable).with_name("lathe"))
        return [program, "exec", "-m", "scripted-1", "--sandbox", mode, "--json", "go"]

    return command


def lathe_env(url: str, scratch: Path) -> dict[str, str]:
    return {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": "test", "LATHE_HOME": str(scratch / "home")}


def find(name: str) -> str | None:
    local = BENCH / "node_modules" / ".bin" / name
    return str(local) if local.exists() else shutil.which(name)


def agents() -> Iterator[Agent]:
    yield Agent("lathe", "exec_command", "cmd", lathe("danger-full-access"), lathe_env)
    yield Agent("lathe, sandboxed", "exec_command", "cmd", lathe("workspace-write"), lathe_env)
    python = BENCH / "venv" / "bin" / "python"
    if python.exists():
        loop = str(ROOT / "benchmarks" / "bare_loop.py")
        yield Agent("bare aiohttp loop", "exec_command", "cmd", lambda url, _: [str(python), loop, url])
    if codex := find("codex"):
        yield Agent("codex", "exec_command", "cmd", lambda url, _: codex_command(codex, url), codex_env)
    if claude := find("claude"):
        yield Agent(
            "claude code, bare",
            "Bash",
            "command",
            lambda url, _: [claude, "--bare", "-p", "go", "--dangerously-skip-permissions", "--model", "scripted-1"],
            claude_env,
            side_answers=True,
        )
    if pi := find("pi"):
        yield Agent(
            "pi",
            "bash",
            "command",
            lambda url, _: [pi, "-p", "--provider", "scripted", "--model", "scripted-1", "--no-session", "go"],
            pi_env,
        )


def codex_command(codex: str, url: str) -> list[str]:
    provider = f'model_providers.scripted={{name="scripted",base_url="{url}",wire_api="responses",env_key="X_KEY"}}'
    return [
        codex, "exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox",
        "-c", provider, "-c", 'model_provider="scripted"', "-m", "scripted-1", "go",
    ]  # fmt: skip


def codex_env(url: str, scratch: Path) -> dict[str, str]:
    home = scratch / "codex"
    home.mkdir(exist_ok=True)
    return {"CODEX_HOME": str(home), "X_KEY": "test"}


def claude_env(url: str, scratch: Path) -> dict[str, str]:
    return {
        "ANTHROPIC_BASE_URL": url.removesuffix("/v1"),
        "ANTHROPIC_API_KEY": "test",
        "CLAUDE_CONFIG_DIR": str(scratch / "claude"),
        "IS_SANDBOX": "1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
    }


def pi_env(url: str, scratch: Path) -> dict[str, str]:
    folder = scratch / "pi"
    folder.mkdir(exist_ok=True)
    model = {
        "id": "scripted-1", "name": "scripted", "reasoning": False, "input": ["text"], "contextWindow": 1000000,
        "maxTokens": 8000, "cost": {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0},
    }  # fmt: skip
    provider = {"baseUrl": url, "apiKey": "test", "api": "openai-completions", "models": [model]}
    (folder / "models.json").write_text(json.dumps({"providers": {"scripted": provider}}))
    return {"PI_CODING_AGENT_DIR": str(folder), "PI_OFFLINE": "1"}


class Run(NamedTuple):
    """One run of an agent: what was measured from outside, and what the server saw."""

    measured: Measured
    stats: dict[str, Any]

    @property
    def gaps(self) -> list[float]:
        """Milliseconds between the last byte of an answer and the first of the next request."""
        return [row["gap_first_ms"] for row in self.stats["rows"][1:]]

    @property
    def first_request(self) -> float:
        return float(self.stats["first_byte_at"]) - self.measured.began


@contextmanager
def server(agent: Agent, calls: int, parallel: bool) -> Iterator[str]:
    command = [
        sys.executable, "-m", "lathe.models.scripted", "--calls", str(calls), "--command", "true",
        "--tool", agent.tool, "--argument", agent.argument,
    ]  # fmt: skip
    command += ["--parallel"] if parallel else []
    command += ["--side-answers"] if agent.side_answers else []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def run(agent: Agent, calls: int, *, parallel: bool = False, memory: bool = False) -> Run:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, server(agent, calls, parallel) as url:
        scratch = Path(folder)
        work = scratch / "work"
        work.mkdir()
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "TERM") if name in os.environ}
        env = {**kept, "HOME": str(scratch), **agent.env(url, scratch)}
        measured = measure(agent.command(url, scratch), cwd=work, env=env, memory=memory)
        with urllib.request.urlopen(url.removesuffix("/v1") + "/stats") as answer:
            stats = json.load(answer)
    expected = 2 if parallel else calls + 1
    if stats["requests"] != expected or measured.code != 0:
        raise RuntimeError(
            f"{agent.name}: {stats['requests']} requests of {expected}, exit {measured.code}: {measured.error}"
        )
    return Run(measured, stats)


def calm(gaps: list[float]) -> float:
    """Return the lower quartile: what a step costs when nothing else wants the machine at that moment."""
    return sorted(gaps)[len(gaps) // 4]


class Runs:
    """All runs of one agent."""

    def __init__(self) -> None:
        self.one: list[Run] = []
        self.twenty: list[Run] = []
        self.hundred: list[Run] = []
        self.together: list[Run] = []
        self.long: list[Run] = []
        self.memory: list[Run] = []

    def take(self, agent: Agent, *, quick: bool) -> None:
        """Run the agent once in each way."""
        self.one.append(run(agent, 1))
        self.twenty.append(run(agent, 20))
        self.hundred.append(run(agent, 100))
        self.together.append(run(agent, 100, parallel=True))
        self.memory.append(run(agent, 100, memory=True))
        if agent.name.startswith("lathe") and not quick:
            self.long.append(run(agent, 500))

    def figures(self) -> dict[str, float]:
        cpu = [
            (many.measured.cpu - few.measured.cpu) / 99 * 1000 for many, few in zip(self.hundred, self.one, strict=True)
        ]
        result = {
            "gap_ms": median([median(each.gaps) for each in self.hundred]),
            "gap_20_ms": median([median(each.gaps) for each in self.twenty]),
            "cpu_ms": median(cpu),
            "wall_100_s": median([each.measured.wall for each in self.hundred]),
            "together_ms": median([each.gaps[0] / 100 for each in self.together]),
            "first_request_s": median([each.first_request for each in (*self.one, *self.twenty, *self.hundred)]),
            "peak_mb": median([each.measured.peak_mb for each in self.memory]),
            "first_body_kb": self.one[0].stats["rows"][0]["body_bytes"] / 1000,
        }
        if self.long:
            begins, ends = [calm(each.gaps[5:55]) for each in self.long], [calm(each.gaps[-50:]) for each in self.long]
            result["gap_500_first_ms"] = median(begins)
            result["gap_500_last_ms"] = median(ends)
            result["gap_500_growth"] = median([end / begin for begin, end in zip(begins, ends, strict=True)])
        return result


def gap_ratio(runs: Runs, baseline: Runs) -> float:
    """Return the median, over the rounds, of the one's gap divided by the other's a moment later."""
    pairs = zip(runs.hundred, baseline.hundred, strict=True)
    return median([median(ours.gaps) / median(theirs.gaps) for ours, theirs in pairs])


def version_cpu(rounds: int) -> dict[str, float]:
    """CPU ms of `lathe --version` and of a Python that does nothing, in turn; medians."""
    lathe_path = str(Path(sys.executable).with_name("lathe"))
    samples: dict[str, list[float]] = {"lathe --version": [], "python3 -c pass": []}
    for _ in range(rounds):
        for name, command in (
            ("lathe --version", [lathe_path, "--version"]),
            ("python3 -c pass", [sys.executable, "-c", "pass"]),
        ):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            samples[name].append(spent * 1000)
    return {name: median(values) for name, values in samples.items()}


def install() -> None:
    BENCH.mkdir(exist_ok=True)
    subprocess.run([sys.executable, "-m", "venv", str(BENCH / "venv")], check=True)
    subprocess.run([str(BENCH / "venv/bin/pip"), "install", "-q", "aiohttp>=3.14"], check=True)
    peers = ["@openai/codex", "@anthropic-ai/claude-code", "@mariozechner/pi-coding-agent"]
    subprocess.run(
        ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(BENCH), *peers], check=True
    )


def verdicts(
    results: dict[str, dict[str, float]], version: dict[str, float], ratio: float | None
) -> dict[str, tuple[float, float]]:
    """Return each bar with what was measured and what is allowed."""
    free, boxed = results["lathe"], results["lathe, sandboxed"]
    checks = {
        "CPU a call, ms": (free["cpu_ms"], BARS["cpu_ms"]),
        "CPU a call in the sandbox, ms": (boxed["cpu_ms"], BARS["cpu_ms_sandboxed"]),
        "peak memory, MB": (free["peak_mb"], BARS["peak_mb"]),
        "peak memory in the sandbox, MB": (boxed["peak_mb"], BARS["peak_mb"]),
        "lathe --version / python3 -c pass": (
            version["lathe --version"] / version["python3 -c pass"],
            BARS["version_ratio"],
        ),
    }
    if "gap_500_growth" in free:
        checks["gap at 500 calls / at the start"] = (free["gap_500_growth"], BARS["gap_flat"])
    if ratio is not None:
        checks["gap / bare loop's gap, round by round"] = (ratio, BARS["gap_ratio"])
    peers = {name: row for name, row in results.items() if not name.startswith("lathe")}
    quickest = min([row["first_request_s"] for row in peers.values()] + [BARS["first_request_s"]])
    checks["first request, s, against the quickest other"] = (boxed["first_request_s"], quickest)
    for name, row in peers.items():
        if name != "bare aiohttp loop":
            checks[f"gap, ms, against {name}"] = (free["gap_ms"], row["gap_ms"])
    return checks


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="exit 1 where a bar is missed")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round, no 500 calls")
    parser.add_argument("--only", nargs="*", help="only these agents")
    parser.add_argument("--install", action="store_true")
    options = parser.parse_args()
    if options.install:
        install()
    rounds = 1 if options.quick else options.rounds
    chosen = [agent for agent in agents() if not options.only or agent.name in options.only]
    runs = {agent.name: Runs() for agent in chosen}
    failed: dict[str, str] = {}
    for number in range(rounds):
        for agent in chosen:
            if agent.name in failed:
                continue
            if not options.json:
                print(f"… round {number + 1} of {rounds}: {agent.name}", file=sys.stderr, flush=True)
            try:
                runs[agent.name].take(agent, quick=options.quick)
            except RuntimeError as error:
                failed[agent.name] = str(error)
    results = {name: each.figures() for name, each in runs.items() if name not in failed}
    both = {"lathe", "bare aiohttp loop"} <= set(results)
    ratio = gap_ratio(runs["lathe"], runs["bare aiohttp loop"]) if both else None
    version = version_cpu(5 if options.quick else 15)
    checks = verdicts(results, version, ratio) if {"lathe", "lathe, sandboxed"} <= set(results) else {}
    missed = [name for name, (value, bar) in checks.items() if value > bar]
    if options.json:
        print(
            json.dumps({"at": time.time(), "agents": results, "version": version, "checks": checks, "failed": failed})
        )
    else:
        report(results, version, checks, failed)
    return 1 if options.check and (missed or not checks or "bare aiohttp loop" not in results) else 0


def report(
    results: dict[str, dict[str, float]],
    version: dict[str, float],
    checks: dict[str, tuple[float, float]],
    failed: dict[str, str],
) -> None:
    columns = {
        "gap ms": "gap_ms",
        "gap at 20": "gap_20_ms",
        "CPU ms a call": "cpu_ms",
        "wall of 100, s": "wall_100_s",
        "100 in one, ms each": "together_ms",
        "first request s": "first_request_s",
        "peak MB": "peak_mb",
        "first body KB": "first_body_kb",
    }
    rows = [[name, *(f"{row[key]:.2f}" for key in columns.values())] for name, row in results.items()]
    print(table(["agent", *columns], rows))
    for name, row in results.items():
        if "gap_500_growth" in row:
            first, last = row["gap_500_first_ms"], row["gap_500_last_ms"]
            print(f"\n{name}, 500 calls: {first:.2f} ms at the start, {last:.2f} ms at the end")
    print("\nCPU: " + ", ".join(f"`{name}` {value:.1f} ms" for name, value in version.items()))
    for name, problem in failed.items():
        print(f"\nnot measured: {problem} ({name})")
    print()
    rows = [
        [name, f"{value:.2f}", f"{bar:.2f}", "ok" if value <= bar else "MISSED"]
        for name, (value, bar) in checks.items()
    ]
    print(table(["bar", "measured", "at most", ""], rows))


if __name__ == "__main__":
    sys.exit(main())
