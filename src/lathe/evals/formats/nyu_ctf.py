"""NYU CTF Bench: challenges of CSAW, 200 to test and 57 to develop with (https://github.com/NYU-LLM-CTF/NYU_CTF_Bench).

A folder a challenge, SPLIT/YEAR/EVENT/CATEGORY/NAME, with `challenge.json` (`name`, `description`, `category`, `flag`,
`files`, `box`, `internal_port`, `compose`) and, where it runs services, `docker-compose.yml`. `test_dataset.json` and
`development_dataset.json` give them their names. The flag counts wherever it stands in the answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
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
)
from lathe.evals.task import Dataset, Network, Task

CHALLENGE, COMPOSE = "challenge.json", "docker-compose.yml"
LISTS = ("test_dataset.json", "development_dataset.json")
_WORDS = {
    "rev": "reverse engineering",
    "pwn": "binary exploitation",
    "web": "web security",
    "crypto": "cryptography",
    "forensics": "forensics",
    "misc": "miscellaneous",
}


def read_dataset(path: Path, *, split: str = "test", made: Maker | None = None) -> Dataset:
    """Return the challenges of a clone (`split`: test, development), or those below any folder; raise `Unreadable`."""
    made = made or Maker()
    listing = path / f"{split}_dataset.json"
    name = f"nyu-ctf-{split}" if listing.is_file() else "nyu-ctf"
    entries = list(_listed(path, listing) if listing.is_file() else _found(path))
    if not entries:
        raise Unreadable(f"{path} holds no {CHALLENGE}.")

    def read(entry: tuple[str, Path]) -> Task:
        title, folder = entry
        if not folder.resolve().is_relative_to(path.resolve()):
            raise Unreadable("Its folder lies outside the clone.")
        return ctf_task(_challenge(title, folder), name, made)

    return gathered(name, [(title, (title, folder)) for title, folder in entries], read, licence=licence_of(path))


def _listed(path: Path, listing: Path) -> Iterator[tuple[str, Path]]:
    rows = parsed_json(text_of(listing, within=path), listing.name)
    for title, row in rows.items() if isinstance(rows, dict) else ():
        where = row.get("path") if isinstance(row, dict) else None
        yield title, path / (where if isinstance(where, str) else "missing")


def _found(path: Path) -> Iterator[tuple[str, Path]]:
    for folder in folders_holding(path, CHALLENGE):
        yield "-".join(folder.relative_to(path).parts) or path.name, folder


def _challenge(title: str, folder: Path) -> Challenge:
    row = parsed_json(text_of(folder / CHALLENGE, within=folder), CHALLENGE)
    if not isinstance(row, dict):
        raise Unreadable(f"{CHALLENGE} is no object.")
    compose = row.get("compose") is True
    files = row.get("files") or []
    if not isinstance(files, list) or not all(isinstance(each, str) for each in files):
        raise Unreadable("files is no list of paths.")
    category = string(row, "category", "misc")
    place = "/home/ctf"
    pairs = [(f"{place}/{each.removeprefix('./')}", each) for each in files]
    return Challenge(
        name=title,
        instruction=_instruction(row, files, place, category, served=compose),
        flag=string(row, "flag"),
        files=from_here(folder, pairs),
        workdir=place,
        services=_services(folder) if compose else None,
        network=Network("public" if compose else "none"),
        category=category,
        tags=(category,),
        cluster="/".join(folder.parts[-4:-2]),
        folder=folder,
    )


def _instruction(row: dict[str, Any], files: list[str], place: str, category: str, *, served: bool) -> str:
    box, port = string(row, "box", ""), str(row.get("internal_port") or row.get("port") or "")
    description = string(row, "description")
    text = description.replace("{box}", box or "the server").replace("{port}", port)
    flag = string(row, "flag")
    lines = [
        f"Solve the {_WORDS.get(category, category)} challenge {string(row, 'name')!r} of a capture-the-flag.",
        text,
    ]
    if files:
        lines.append(f"Its files lie in {place}: {', '.join(files)}.")
    if served and box and f"{box}" not in text:
        lines.append(f"Its server is {box}{f', port {port}' if port else ''}.")
    if "{" in flag:
        lines.append(f"The flag has the form {re.sub(r'{.*?}', '{...}', flag)}.")
    return "\n\n".join(lines)


def _services(folder: Path) -> dict[str, Any]:
    if not (folder / COMPOSE).is_file():
        raise Unreadable(f"It runs services and has no {COMPOSE}.")
    return parsed_yaml(text_of(folder / COMPOSE, within=folder), COMPOSE)
