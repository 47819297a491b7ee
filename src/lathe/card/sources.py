"""What one card is made of: everything that its figures are read from, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from lathe.card.classify import Classification
from lathe.card.evidence import EvidenceFile, read_evidence
from lathe.card.readings import Finished, Reading
from lathe.card.runs import read_runs
from lathe.card.safeguards import safeguards_for
from lathe.card.thresholds import Thresholds
from lathe.guard.taxonomy import Taxonomy
from lathe.guard.taxonomy import shipped as shipped_taxonomy


class CardSources:
    """Runs, evidence and thresholds, read from files, with what follows from them.

    Raises `UsageError` and `ConfigError` for what can't be read.
    """

    def __init__(
        self,
        runs: Sequence[Path],
        *,
        model: str,
        issued: int,
        thresholds: Thresholds,
        evidence: Sequence[Path] = (),
        served_as: str = "",
        fallbacks: Sequence[str] = (),
    ) -> None:
        self.model = model
        self.fallbacks = tuple(fallbacks)
        self.thresholds = thresholds
        self.taxonomy: Taxonomy = shipped_taxonomy()
        self.runs = read_runs(runs, model)
        self.evidence = read_evidence(evidence)
        self.classification = Classification(
            model,
            thresholds,
            [Finished(run.plan, run.trials) for run in self.runs],
            {run.plan.id: run.digest.whole for run in self.runs},
        )
        self.safeguards = safeguards_for(
            self.classification, served_as=served_as or model, fallbacks=fallbacks, issued=issued
        )
        self.readings: tuple[Reading, ...] = (
            *(
                reading
                for category in self.classification.categories
                for measured in category.measures
                for reading in measured.readings
            ),
            *self.classification.baseline,
        )
        # kept with what they are the ids of, so that no other thing can come to have one of them
        self._things = list(self._all())
        self._known = {id(thing) for thing in self._things}

    def know(self, thing: object) -> bool:
        """Say whether a thing is one of these, and not merely like one."""
        return id(thing) in self._known

    def evidence_for(self, section: str) -> list[EvidenceFile]:
        """Return the files whose figures stand in a section."""
        return [one for one in self.evidence if one.kind.section == section]

    def _all(self) -> Iterator[object]:
        yield self.thresholds
        yield self.taxonomy
        yield self.safeguards
        yield from self.taxonomy.clauses.values()
        yield from self.thresholds.sources.values()
        yield from self.readings
        for run in self.runs:
            yield from (run, run.plan, *run.trials)
        for file in self.evidence:
            yield from (file, file.kind, *file.kind.figures)
        for category in self.classification.categories:
            yield from (category, category.category)
            for measured in category.measures:
                yield from (measured, measured.measure, *measured.measure.published)
