"""Cybench: 40 capture-the-flag challenges (https://cybench.github.io), in either of the forms they are handed out in.

Inspect's form (`inspect_evals/cybench/challenges`): a folder a challenge with `eval.yaml`, `compose.yaml`, and what
they name. The original form: `metadata/metadata.json` with the prompts, and the flag as the answer of the last subtask;
`init_script.sh` says which files the agent gets. The flag counts wherever it stands in the answer, as in both.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

from lathe.evals.formats.ctf import Challenge, ctf_task, from_here
from lathe.evals.formats.made import Maker
from lathe.evals.formats.reading import (
    Unreadable,
    folders_holding,
    gathered,
    licence_of,
    parsed_json,
    parsed_yaml,
    string,
    text_of,
    word,
)
from lathe.evals.task import Dataset, Network, Task

EVAL, METADATA = "eval.yaml", "metadata/metadata.json"
VARIANTS = ("hard", "easy")
_RUN = re.compile(r"`([^`]+)`")


def challenges_in(path: Path) -> list[Path]:
    """Return the folders of challenges at or below a folder, in either form."""
    return folders_holding(path, EVAL, METADATA)


def read_dataset(path: Path, *, variant: str = "hard", made: Maker | None = None) -> Dataset:
    """Return the challenges below a folder; raise `Unreadable` where there are none.

    `variant` is `hard` (the unguided prompt, as scores are given for) or `easy`.
    """
    made = made or Maker()
    if variant not in VARIANTS:
        raise Unreadable(f"Cybench has no variant {variant!r}; it has {' and '.join(VARIANTS)}.")
    folders = challenges_in(path)
    if not folders:
        raise Unreadable(f"{path} holds no challenge of Cybench: no {EVAL} and no {METADATA}.")
    name = "cybench" if variant == "hard" else f"cybench-{variant}"

    def read(folder: Path) -> Task:
        inspect = (folder / EVAL).is_file()
        return ctf_task(_of_inspect(folder, variant) if inspect else _original(folder, variant), name, made)

    entries = [(folder.relative_to(path).as_posix(), folder) for folder in folders]
    return gathered(name, entries, read, licence=licence_of(path))


# --- Inspect's form


def _of_inspect(folder: Path, variant: str) -> Challenge:
    row = parsed_yaml(text_of(folder / EVAL, within=folder), EVAL)
    variants = row.get("variants")
    if not isinstance(variants, dict) or not isinstance(variants.get(variant), dict):
        raise Unreadable(f"{EVAL} has no variant {variant}.")
    chosen = variants[variant]
    services, image, hosts = _compose(folder, row)
    about = row.get("metadata")
    metadata = about if isinstance(about, dict) else {}
    solve, solve_files = _solution(folder, variants.get("solution"))
    return Challenge(
        name=string(row, "name"),
        instruction=string(chosen, "prompt"),
        flag=string(row, "flag"),
        files=from_here(folder, [*_files(row), *_files(chosen)]),
        services=services,
        image=image if services is not None else "",
        solve=solve,
        solve_files=solve_files,
        network=Network("allowlist", hosts) if hosts else Network("public"),
        category=word(metadata, "category"),
        tags=(variant,),
        cluster=word(metadata, "competition"),
        folder=folder,
    )


def _files(row: dict[str, Any]) -> list[tuple[str, str]]:
    """Return pairs of path there and path here."""
    files = row.get("files") or {}
    if not isinstance(files, dict) or not all(isinstance(each, str) for pair in files.items() for each in pair):
        raise Unreadable(f"files of {EVAL} is no table of paths.")
    return [(there if there.startswith("/") else f"/root/{there}", here) for there, here in files.items()]


def _compose(folder: Path, row: dict[str, Any]) -> tuple[dict[str, Any] | None, str, tuple[str, ...]]:
    """Return the services besides the agent's own machine (None without any), its image, and the hosts it may reach."""
    sandbox = row.get("sandbox")
    name = sandbox.get("config") if isinstance(sandbox, dict) else None
    if not isinstance(name, str):
        raise Unreadable(f"{EVAL} names no compose file.")
    compose = parsed_yaml(text_of(folder / name, within=folder), name)
    services = compose.get("services")
    if not isinstance(services, dict) or not isinstance(services.get("default"), dict):
        raise Unreadable(f"{name} has no service default, where the agent works.")
    policy = compose.get("x-inspect_k8s_sandbox")
    domains = policy.get("allow_domains") if isinstance(policy, dict) else None
    hosts = tuple(each for each in domains if isinstance(each, str)) if isinstance(domains, list) else ()
    default = services["default"]
    others = {key: value for key, value in services.items() if key != "default"}
    if not others:
        return None, "", hosts
    plain = {key: value for key, value in compose.items() if not key.startswith("x-")}
    return {**plain, "services": {**others, "main": default}}, string(default, "image"), hosts


def _solution(folder: Path, variant: Any) -> tuple[list[str], list[tuple[Path, str]]]:
    """Return the lines of the oracle's script and its files: those the solution's prompt tells to run."""
    prompt = variant.get("prompt") if isinstance(variant, dict) else None
    command = _RUN.search(prompt) if isinstance(prompt, str) else None
    if command is None:
        return [], []
    pairs = from_here(folder, _files(variant))
    lines = [f"mkdir -p {shlex.quote(str(Path(there).parent))}" for _, there in pairs]
    lines += [f"cp /solution/files{shlex.quote(there)} {shlex.quote(there)}" for _, there in pairs]
    return [*dict.fromkeys(lines), "cd /root", command[1]], [(here, f"files{there}") for here, there in pairs]


# --- the original form


def _original(folder: Path, variant: str) -> Challenge:
    row = parsed_json(text_of(folder / METADATA, within=folder), "metadata.json")
    if not isinstance(row, dict):
        raise Unreadable("metadata.json is no object.")
    subtasks = row.get("subtasks")
    last = subtasks[-1] if isinstance(subtasks, list) and subtasks else None
    if not isinstance(last, dict):
        raise Unreadable("metadata.json has no subtask whose answer is the flag.")
    target = string(row, "target_host", "")
    categories = row.get("categories")
    prompt = string(row, f"{variant}_prompt")
    return Challenge(
        name=re.sub(r"^\[[^]]*\]\s*", "", folder.name),
        instruction=f"{prompt}\n\nThe target is {target}." if target and target not in prompt else prompt,
        flag=string(last, "answer"),
        files=_handed_out(folder),
        workdir="/tmp/cyber",
        services=_own_services(folder) if target else None,
        network=Network("public"),
        category=categories[0]
        if isinstance(categories, list) and categories and isinstance(categories[0], str)
        else "",
        difficulty=str(row.get("difficulty", "")),
        tags=(variant,),
        cluster=folder.parent.name,
        folder=folder,
    )


def _handed_out(folder: Path) -> list[tuple[Path, str]]:
    """Return the files that `init_script.sh` copies into the folder it is given; anything else in it is refused."""
    script = folder / "init_script.sh"
    if not script.is_file():
        return []
    pairs: list[tuple[str, str]] = []
    for number, line in enumerate(text_of(script, within=folder).split("\n"), 1):
        try:
            words = shlex.split(line, comments=True)
        except ValueError:
            words = ["?"]
        if not words or words[0] in ("mkdir", "echo", "exit", "set") or re.fullmatch(r"\w+=.*", words[0]):
            continue
        names = [each for each in words[1:] if not each.startswith("-")]
        if words[0] != "cp" or len(names) < 2 or not re.match(r"\$\{?\w+\}?|\$1", names[-1]):
            raise Unreadable(f"Line {number} of init_script.sh does something else than copy files.")
        inside = re.sub(r"^\$\{?\w+\}?/?", "", names[-1])
        for name in names[:-1]:
            whole = name.endswith(("/.", "/*"))
            here = name.removesuffix("/.").removesuffix("/*").removeprefix("./")
            base = inside or ("" if whole else Path(here).name)
            pairs.append((f"/tmp/cyber/{base}", here))
    return from_here(folder, pairs)


def _own_services(folder: Path) -> dict[str, Any]:
    for place in (folder, folder / "challenge", folder / "release"):
        for name in ("docker-compose.yml", "docker-compose.yaml", "compose.yaml", "compose.yml"):
            if (place / name).is_file():
                if place != folder:
                    raise Unreadable("Its compose file lies in a folder of its own, which is not supported here.")
                return parsed_yaml(text_of(place / name, within=folder), name)
    raise Unreadable("It has a target host and no compose file that starts it.")
