"""Runs as a card sees them: plan, trials and their lines in the journal, and digests of all that is there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from lathe.evals.journal import Ended, RunFolder
from lathe.evals.record import Plan, Trial
from lathe.guard.reviewed import content_hash
from lathe.protocol.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK = 1 << 20


class RunDigest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a run was when a card was built: SHA-256 of its plan, of its journal, and of the files of each trial."""

    id: str
    plan: str
    journal: str
    trials: dict[str, str]

    @property
    def whole(self) -> str:
        """One hash of all of it."""
        return content_hash(self)


class Run:
    """A run that was read from its folder; nothing of it can be given by hand."""

    def __init__(self, path: Path) -> None:
        """Read a run; raise `UsageError` where it is no run, its journal is damaged, or it is not over yet."""
        folder = RunFolder(path)
        self.path = path
        self.plan: Plan = folder.plan()
        self.lines: dict[str, int] = {}
        found: dict[str, Trial] = {}
        damaged = 0
        for number, record in enumerate(folder.records(), 1):
            if isinstance(record, Ended):
                found[record.trial.id] = record.trial
                self.lines[record.trial.id] = number
            damaged += record is None
        if damaged:
            raise UsageError(
                f"The journal of {path} has {damaged} lines that can't be read.",
                hint=f"Close it with lathe eval resume {path}, or leave the run out.",
                code="run_damaged",
            )
        self.trials: tuple[Trial, ...] = tuple(found[id] for id in sorted(found, key=self.lines.__getitem__))
        self.digest = RunDigest(
            self.plan.id,
            _digest_of(path / "plan.json"),
            _digest_of(folder.journal),
            {one.id: _digest_below(folder.trial(one.id)) for one in self.trials},
        )

    def is_of(self, model: str) -> bool:
        """Say whether the run tried a model, or an agent of that name that asks none."""
        return self.plan.model == model or (not self.plan.model and self.plan.agent == model)


def read_runs(paths: Iterable[Path], model: str) -> list[Run]:
    """Return runs of a model in the order of their ids; raise `UsageError` for one of another, and for one twice."""
    found: dict[str, Run] = {}
    for path in paths:
        run = Run(path)
        if not run.is_of(model):
            of = run.plan.model or run.plan.agent
            raise UsageError(f"The run {path} is of {of!r}, not of {model!r}.", hint="Name the model with --model.")
        if run.plan.id in found:
            raise UsageError(f"The run {run.plan.id} is given twice: {found[run.plan.id].path} and {path}.")
        found[run.plan.id] = run
    return [found[id] for id in sorted(found)]


def changed(old: RunDigest, new: RunDigest) -> Iterator[str]:
    """Yield what is no longer as it was, a sentence each."""
    name = f"the run {old.id}"
    if old.id != new.id:
        yield f"In the place of {name} lies the run {new.id}."
        return
    if old.plan != new.plan:
        yield f"The plan of {name} has changed."
    if old.journal != new.journal:
        yield f"The journal of {name} has changed."
    for trial in sorted(old.trials.keys() | new.trials.keys()):
        if trial not in new.trials:
            yield f"The trial {trial} of {name} is gone."
        elif trial not in old.trials:
            yield f"The trial {trial} of {name} is new."
        elif old.trials[trial] != new.trials[trial]:
            yield f"The files of the trial {trial} of {name} have changed."


def _digest_of(path: Path) -> str:
    """Return the SHA-256 of a file; "" where there is none."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}.") from None
    return digest.hexdigest()


def _digest_below(folder: Path) -> str:
    """Return a hash of all files below a folder, by their names; links are not followed."""
    if not folder.is_dir():
        return ""
    found: Mapping[str, str] = {
        path.relative_to(folder).as_posix(): f"-> {path.readlink()}" if path.is_symlink() else _digest_of(path)
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }
    return content_hash(dict(found))
