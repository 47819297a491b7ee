"""InterCode-CTF: 100 challenges of picoCTF (https://github.com/princeton-nlp/intercode, `data/ctf`, MIT).

`ic_ctf.json` has a row a challenge (`task_id`, `query`, `gold`, `tags`, sometimes `setup`), `task_assets/ID/` its
files, without `solution/`. The agent's folder is `/ctf/ID`. What it submits must be the flag, in any case, as in
InterCode's own check; there it is the word after `submit`, here the answer's last line.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from lathe.evals.formats.ctf import Challenge, ctf_task
from lathe.evals.formats.made import Maker
from lathe.evals.formats.reading import Unreadable, gathered, licence_of, parsed_json, string, text_of, tree_of, words
from lathe.evals.task import Dataset, Network, Task

ROWS = "ic_ctf.json"
_ONLINE = re.compile(r"https?://|\bnc\b|\bssh\b|\bnetcat\b|\.net\b|\.org\b|\bwebsite\b|\bserver\b", re.IGNORECASE)
_PLACEHOLDERS = (".placeholder", ".ignore", ".gitkeep")


def rows_file(path: Path) -> Path | None:
    """Return the file of rows that a path means: itself, in that folder, or in `data/ctf` of a clone."""
    places = (path, path / ROWS, path / "data" / "ctf" / ROWS)
    return next((each for each in places if each.is_file() and each.name == ROWS), None)


def read_dataset(path: Path, *, made: Maker | None = None) -> Dataset:
    """Return the challenges; raise `Unreadable` where there are none."""
    made = made or Maker()
    source = rows_file(path)
    if source is None:
        raise Unreadable(f"{path} holds no {ROWS}.")
    rows = parsed_json(text_of(source, within=source.parent), ROWS)
    if not isinstance(rows, list):
        raise Unreadable(f"{ROWS} is no list.")
    folder = source.parent.resolve()

    def read(row: Any) -> Task:
        return ctf_task(_challenge(row, folder), "intercode-ctf", made)

    entries = [(_name(row, f"row {number}"), row) for number, row in enumerate(rows)]
    return gathered("intercode-ctf", entries, read, licence=licence_of(folder) or "MIT")


def _name(row: Any, default: str) -> str:
    return f"intercode-ctf-{row['task_id']}" if isinstance(row, dict) and "task_id" in row else default


def _challenge(row: Any, folder: Path) -> Challenge:
    if not isinstance(row, dict) or not isinstance(row.get("task_id"), int):
        raise Unreadable("The row has no task_id.")
    number = row["task_id"]
    query, setup = string(row, "query"), string(row, "setup", "")
    place = f"/ctf/{number}"
    files = _assets(folder / "task_assets" / str(number), folder, place, setup=bool(setup))
    tags = words(row, "tags")
    online = not files or bool(setup) or _ONLINE.search(query) is not None
    return Challenge(
        name=_name(row, ""),
        instruction=f"Solve this capture-the-flag challenge; its files, if it has any, lie in {place}.\n\n{query}",
        flag=string(row, "gold"),
        files=files,
        workdir=place,
        rule="last-line-any-case",
        setup=setup,
        network=Network("public" if online else "none"),
        category=tags[0] if tags else "",
        tags=tags,
        folder=folder,
    )


def _assets(assets: Path, folder: Path, place: str, *, setup: bool) -> list[tuple[Path, str]]:
    if not assets.is_dir():
        return []
    names = [path for path in tree_of(assets, within=folder, omit=lambda name: name == "solution") if path.is_file()]
    if not names and not setup:
        # A challenge without files has a placeholder in the set's own repository.
        raise Unreadable(f"task_assets/{assets.name} lacks the challenge's files.")
    there = [(path, f"{place}/{path.relative_to(assets).as_posix()}") for path in names]
    return [(path, name) for path, name in there if path.name not in _PLACEHOLDERS]
