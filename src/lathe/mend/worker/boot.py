"""The script that the project's interpreter is started with: `python boot.py '{"mode": "serve", ...}'`.

It puts `sys.path` as `python -m pytest` would have it in the scratch copy, and takes every trace of Lathe's own
installation out of it again, so that the project sees its own packages and no others.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def main() -> None:
    config = json.loads(sys.argv[1])
    sys.argv = ["pytest"]
    sys.path[0] = str(Path(__file__).resolve().parents[3])
    from lathe.mend.worker import server

    sys.path[0] = str(Path.cwd())
    for name in [name for name in sys.modules if name.partition(".")[0] == "lathe"]:
        del sys.modules[name]
    _redirect(config["original"], config["scratch"])
    os._exit(server.confirm(config) if config["mode"] == "confirm" else server.serve(config))


def _redirect(original: str, scratch: str) -> None:
    """Make paths into the user's tree point into the copy, where there is such a file."""

    def moved(entry: str) -> str:
        if entry == original or entry.startswith(original + os.sep):
            twin = scratch + entry[len(original) :]
            if Path(twin).exists():
                return twin
        return entry

    sys.path[:] = [moved(entry) for entry in sys.path]
    if os.environ.get("PYTHONPATH"):
        entries = os.environ["PYTHONPATH"].split(os.pathsep)
        os.environ["PYTHONPATH"] = os.pathsep.join(moved(entry) for entry in entries)
    for finder in sys.meta_path:  # setuptools writes editable installs as finders with a table of packages
        table = getattr(sys.modules.get(getattr(finder, "__module__", "")), "MAPPING", None)
        if isinstance(table, dict):
            table.update({name: moved(path) for name, path in table.items() if isinstance(path, str)})


if __name__ == "__main__":
    main()
