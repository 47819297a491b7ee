"""The card of mend that the repository shows, with the runs that it was made of.

    scripts/card_of_mend.py RUN... [--evidence FILE]...     from runs: they are packed beside the card
    scripts/card_of_mend.py                                 from what is packed, when thresholds or pages have changed

Of each run everything is packed but copies of other people's files that an agent changed, and its settings.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from lathe.evals.journal import RunFolder

CARD = Path(__file__).parents[1] / "docs" / "cards" / "mend"
PACKED = CARD / "runs.tar.xz"


def taken(run: Path, target: Path) -> None:
    """Copy a run's folder without what is not to be shown."""

    def left_out(folder: str, names: list[str]) -> set[str]:
        parts = Path(folder).relative_to(run).parts
        gone = {"changes", "builds", ".lock"} & set(names)
        if len(parts) >= 2 and parts[0] == "trials":
            own = parts[2:]
            if own == ("agent",):
                gone |= set(names) - {"lathe"}
            elif own == ("agent", "lathe"):
                gone |= set(names) - {"threads"}
            elif own[:3] == ("agent", "lathe", "threads"):
                gone |= {name for name in names if not name.endswith(".jsonl")}
        return gone

    shutil.copytree(run, target, ignore=left_out, symlinks=True)


def pack(runs: Path) -> None:
    """Pack the runs, the same bytes for the same runs."""

    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = entry.mtime = 0
        entry.uname = entry.gname = ""
        return entry

    with tarfile.open(PACKED, "w:xz", preset=9) as archive:
        archive.add(runs, "runs", recursive=False, filter=plain)
        for path in sorted(runs.rglob("*")):
            archive.add(path, f"runs/{path.relative_to(runs)}", recursive=False, filter=plain)


def main() -> int:
    """Build the card; return the exit status of that."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--evidence", action="append", default=[], type=Path)
    options = parser.parse_args()
    runs = CARD / "runs"
    shutil.rmtree(runs, ignore_errors=True)
    with tempfile.TemporaryDirectory() as held:
        evidence = [Path(shutil.copy(path, held)) for path in options.evidence or sorted(CARD.glob("evidence/*.json"))]
        if options.runs:
            CARD.mkdir(parents=True, exist_ok=True)
            for run in options.runs:
                taken(run.resolve(), runs / RunFolder(run).plan().dataset_name)
            pack(runs)
        else:
            with tarfile.open(PACKED) as archive:
                archive.extractall(CARD, filter="data")
        command = [sys.executable, "-m", "lathe", "card", "build", *map(str, sorted(runs.iterdir()))]
        command += ["--model", "mend", "--out", str(CARD)]
        command += [word for path in evidence for word in ("--evidence", str(path))]
        code = subprocess.run(command, check=False).returncode
    shutil.rmtree(runs)
    return code


if __name__ == "__main__":
    sys.exit(main())
