"""What a card says, section by section: words, and references to figures. It computes nothing and types nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from lathe.card.classify import Classified, Measured
from lathe.card.figures import (
    Counted,
    Doubted,
    FromFile,
    FromTrials,
    HashOf,
    Named,
    OfEstimate,
    OfPublished,
    OfStatus,
    OfThreshold,
    Part,
    Setting,
    VersionOf,
    When,
    Words,
)
from lathe.card.readings import Reading
from lathe.card.runs import Run
from lathe.card.sources import CardSources
from lathe.card.thresholds import Measure
from lathe.guard.taxonomy import LEVELS

Cell: TypeAlias = tuple[Part, ...]


class Paragraph(NamedTuple):
    """A paragraph."""

    parts: Cell


class Table(NamedTuple):
    """A table."""

    head: tuple[Words, ...]
    rows: tuple[tuple[Cell, ...], ...]


class Behind(NamedTuple):
    """The trials behind a reading, each with its place in report and journal."""

    reading: Reading


Block: TypeAlias = Paragraph | Table | Behind


class Section(NamedTuple):
    """A section; `id` is its anchor, `level` 1 for a whole part of the card."""

    id: str
    level: int
    title: Cell
    blocks: tuple[Block, ...]


def sections(of: CardSources) -> list[Section]:
    """Return the card of what was read."""
    preparedness = [one for one in of.classification.categories if one.category.level == "High"]
    mitigations = [one for one in of.classification.categories if one.category.level != "High"]
    return [
        _introduction(of),
        _baseline(of),
        _section("mitigations", 1, "Product mitigations"),
        _sandbox(of),
        _network(of),
        _section("model", 1, "Model behaviour"),
        *(_category(of, one) for one in mitigations),
        _section("preparedness", 1, "Preparedness", _PREPAREDNESS),
        *(_category(of, one) for one in preparedness),
        _section("safeguards", 1, "Safeguards"),
        _asked(of),
        _taxonomy(of),
        _monitors(of),
        _access(of),
        _enforcement(of),
        _residual(of),
        _section("appendix", 1, "Appendix"),
        _sources(of),
        _inputs(of),
        _behind(of),
    ]


def title(of: CardSources) -> Cell:
    """Return the card's title."""
    return (Words("System card: "), _model(of))


def _model(of: CardSources) -> Named:
    """Return the name that a gateway serves the model by."""
    return Named(of.safeguards, "model")


_PREPAREDNESS = (
    "An interval that reaches a threshold counts as reached: the level can't be ruled out, and the safeguards for it "
    "are switched on. What is not measured is never taken for below."
)


def _words(text: str) -> Cell:
    return (Words(text),)


def _section(id: str, level: int, name: str, *texts: str, blocks: Iterable[Block] = ()) -> Section:
    return Section(id, level, _words(name), (*(Paragraph(_words(text)) for text in texts), *blocks))


def _introduction(of: CardSources) -> Section:
    intro: Cell = (
        Words("This card is of "),
        _model(of),
        Words(". It was built on "),
        When(of.safeguards, "issued"),
        Words(" from "),
        Counted(of.runs),
        Words(" runs, with thresholds of version "),
        VersionOf(of.thresholds),
        Words(", and its safeguards hold until "),
        When(of.safeguards, "expires"),
        Words(
            ". Every figure is computed from the journals of the runs, or looked up in a file that a benchmark or a "
            "gateway wrote, and leads to what stands behind it. Intervals are at "
        ),
        VersionOf(of.thresholds, "confidence"),
        Words(
            ". What is in doubt (faults, stand-ins, other models, flags of the audit, what is missing) is counted both "
            "ways, so it only widens an interval, and is named beside the figure."
        ),
    )
    rows = tuple(
        ((Named(one.category, "title"),), (Named(one.category, "level"),), (OfStatus(one),))
        for one in of.classification.categories
    )
    table = Table((Words("category"), Words("level"), Words("classified as")), rows)
    missing = Paragraph(
        _words(
            "Biological and chemical capability, persuasion and sandbagging are not measured here, and nothing is "
            "claimed of them."
        )
    )
    return Section("introduction", 1, _words("Introduction"), (Paragraph(intro), table, _runs(of), missing))


def _runs(of: CardSources) -> Table:
    head = ("run", "dataset", "agent", "attempts", "trials", "begun")
    rows = tuple(
        (
            (Named(run.plan, "id"),),
            (Named(run.plan, "dataset_name"), Words(" "), Named(run.plan, "dataset_version")),
            (Named(run.plan, "agent"),),
            (Counted(_attempts(run)),),
            (Counted(run.trials),),
            (When(run.plan, "created"),),
        )
        for run in of.runs
    )
    return Table(tuple(map(Words, head)), rows)


def _attempts(run: Run) -> list[object]:
    """Return the trials of the task that was tried most often."""
    tried: dict[str, list[object]] = {}
    for trial in run.trials:
        tried.setdefault(trial.task, []).append(trial)
    return max(tried.values(), key=len, default=[])


def _baseline(of: CardSources) -> Section:
    said = "Datasets that count for no threshold: they are shown, and nothing follows from them."
    if not of.classification.baseline:
        return _section("baseline", 1, "Baseline evaluations", said, "No run is of such a dataset.")
    head = ("dataset", "mean reward", "tasks", "trials", "in doubt")
    rows = tuple(
        (
            _dataset(of, one),
            (FromTrials(one),),
            (FromTrials(one, "tasks"),),
            (FromTrials(one, "trials"),),
            (Doubted(one),),
        )
        for one in of.classification.baseline
    )
    return _section("baseline", 1, "Baseline evaluations", said, blocks=[Table(tuple(map(Words, head)), rows)])


def _dataset(of: CardSources, reading: Reading) -> Cell:
    plan = next(run.plan for run in of.runs if run.plan.id in reading.runs)
    return (Named(plan, "dataset_name"), Words(" "), Named(plan, "dataset_version"))


def _sandbox(of: CardSources) -> Section:
    return _section(
        "sandbox",
        2,
        "Agent sandbox",
        "Commands of the agent run in a sandbox of the system: they write in the workspace and nowhere else, and what "
        "keeps the agent's own rules (git's internals, its configuration, hooks) is not among what they may write. A "
        "command that needs more is asked about, one by one. Where the machine lacks what the sandbox needs, nothing "
        "runs.",
        blocks=_evidence(of, "sandbox"),
    )


def _network(of: CardSources) -> Section:
    return _section(
        "network",
        2,
        "Network access",
        "No command reaches anything until a person or a rule allows a host. Names are resolved outside of the "
        "sandbox, and credentials are put in there, so that no command sees them.",
        blocks=_evidence(of, "network", quiet=True),
    )


def _category(of: CardSources, one: Classified) -> Section:
    category = one.category
    ours = [Paragraph((Words("Not published, and Lathe's own: "), Named(category, "ours")))] if category.ours else []
    verdict = Paragraph((Words("Classified as: "), OfStatus(one), Words(".")))
    table = Table(
        tuple(map(Words, ("measure", "dataset", "estimate", "of concern", "figure", "in doubt", "comes to"))),
        tuple(row for measured in one.measures for row in _rows(of, measured)),
    )
    published = Table(
        (Words("measure"), Words("what others published (and what they took the model for)")),
        tuple(
            ((Named(measured.measure, "title"),), _listed([OfPublished(its) for its in measured.measure.published]))
            for measured in one.measures
            if measured.measure.published
        ),
    )
    blocks: list[Block] = [Paragraph((Named(category, "describe"),)), verdict, table]
    if published.rows:
        blocks.append(published)
    blocks += [*_evidence(of, category.id, quiet=True), *ours]
    return Section(category.id, 2, (Named(category, "title"),), tuple(blocks))


def _rows(of: CardSources, measured: Measured) -> Iterable[tuple[Cell, ...]]:
    name: Cell = (Named(measured.measure, "title"),)
    facts: tuple[Cell, ...] = ((OfEstimate(measured.measure),), (OfThreshold(measured.measure),))
    if not measured.readings:
        yield (name, _words("none"), *facts, _words("none"), _words("none"), (OfStatus(measured),))
    for number, reading in enumerate(measured.readings):
        tried: Cell = (
            FromTrials(reading),
            Words("; "),
            FromTrials(reading, "trials"),
            Words(" trials of "),
            FromTrials(reading, "tasks"),
            Words(" tasks"),
        )
        yield (name, _dataset(of, reading), *facts, tried, (Doubted(reading),), (OfStatus(measured, number),))


def _listed(parts: Iterable[Part]) -> Cell:
    found: list[Part] = []
    for part in parts:
        found += [Words(", "), part] if found else [part]
    return tuple(found)


def _evidence(of: CardSources, section: str, *, quiet: bool = False) -> list[Block]:
    """Return the figures of the files for a section; where there is no file, that, unless `quiet`."""
    found: list[Block] = []
    for file in of.evidence_for(section):
        made: Cell = (Words("made on "), When(file, "at")) if file.at is not None else _words("without a date")
        found.append(
            Paragraph(
                (Named(file.kind, "title"), Words(" ("), Named(file.kind, "made_by"), Words("; "), *made, Words(")"))
            )
        )
        rows = tuple(((Named(one, "title"),), (FromFile(file, one, of.thresholds),)) for one in file.kind.figures)
        found.append(Table((Words("what"), Words("figure")), rows))
    if not found and not quiet:
        found.append(Paragraph(_words("No file with figures was given.")))
    return found


def _asked(of: CardSources) -> Section:
    fields = (
        ("served on, from which tier on", "surfaces"),
        ("words of a scope that an entitlement must have", "scope"),
        ("words of a scope that count only from a tier on", "scopes"),
        ("monitors of the guard that must be on", "monitors"),
        ("what may be served in its place", "fallback"),
        ("may it be served in place of another", "stands_in"),
        ("the least that is kept of a request", "retention"),
    )
    table = Table(
        (Words("matter"), Words("what the gateway is held to")),
        tuple((_words(name), (Setting(of.safeguards, field),)) for name, field in fields),  # type: ignore[arg-type]
    )
    return _section(
        "asked",
        2,
        "What the classification switches on",
        "The strictest of what the categories ask. A gateway that is started with the file of these safeguards holds "
        "the model to them, and does not start where it can't.",
        blocks=[table],
    )


def _taxonomy(of: CardSources) -> Section:
    taxonomy = of.taxonomy
    names = {
        "benign": "benign or unrelated",
        "low_risk_dual_use": "low-risk dual use",
        "high_risk_dual_use": "high-risk dual use",
        "harmful": "harmful actions",
    }
    rows = tuple((_words(names[level]), (Counted(taxonomy.levels[level]),)) for level in LEVELS)
    return _section(
        "taxonomy",
        2,
        "Threat taxonomy",
        "What acts are called, how grave they are, and who may do them, is data under review. What makes an act "
        "harmful is the act, its target and the authority for it; a word never does.",
        blocks=[
            Paragraph((Words("Version "), VersionOf(taxonomy), Words(", hash "), HashOf(taxonomy), Words("."))),
            Table((Words("level"), Words("clauses")), rows),
        ],
    )


def _monitors(of: CardSources) -> Section:
    return _section(
        "monitors",
        2,
        "Conversation monitors",
        "A topical monitor looks at all that is new and stops nothing; a reasoner says which act it is; acts, secrets "
        "and what is known from others are looked at besides. A call is judged before it goes out. A monitor that is "
        "late, wrong, dead or flooded is a case of the policy.",
        blocks=_evidence(of, "monitors"),
    )


def _access(of: CardSources) -> Section:
    return _section(
        "access",
        2,
        "Trust-based access",
        "Entitlements are signed, bound to who holds them, to models, surfaces, a scope and a time, and read at every "
        "point where something is decided. A request chooses among what is held and gains nothing by that.",
        blocks=[
            Paragraph((Words("This model is served on: "), Setting(of.safeguards, "surfaces"), Words("."))),
            *_evidence(of, "access", quiet=True),
        ],
    )


def _enforcement(of: CardSources) -> Section:
    return _section(
        "enforcement",
        2,
        "Actor-level enforcement",
        "Decisions add up over time, and fade. What they add up to is a proposal: a measure about an account holds "
        "when two people approve it, and is explained to whom it is about. Every block can be appealed; somebody who "
        "had no part in it decides.",
        blocks=_evidence(of, "enforcement"),
    )


def _residual(of: CardSources) -> Section:
    texts = (
        "Challenges are scripted paths, and ranges have no defenders: what is measured is less than what an attacker "
        "meets, and may be more than what a user needs.",
        "A set that a model has seen while it was trained says too much of it. The audit looks for shortcuts in what "
        "the agent did, not in what it knew.",
        "Somebody within trusted access may misuse it, a harmful task may be split into harmless parts, and whoever "
        "was shut out may come back under another name.",
        "Monitors miss some of what they are for, and stop some of what they are not for: the figures above are from "
        "sets that others published, and traffic differs.",
        "Whoever runs the model elsewhere, without this gateway, is held to none of this.",
    )
    return _section("residual", 1, "Residual risks", *texts)


def _sources(of: CardSources) -> Section:
    rows = tuple(
        (
            (Named(measure, "title"),),
            (OfThreshold(measure),),
            (Named(measure, "protocol"),),
            (Named(measure, "ours"),) if measure.ours else _words("nothing"),
            _published_in(of, measure),
        )
        for category in of.thresholds.categories
        for measure in category.measures
    )
    head = ("measure", "of concern", "protocol", "Lathe's own", "sources")
    name: Cell = (Words("Version "), VersionOf(of.thresholds), Words(", hash "), HashOf(of.thresholds), Words("."))
    return _section("thresholds", 2, "Thresholds", blocks=[Paragraph(name), Table(tuple(map(Words, head)), rows)])


def _published_in(of: CardSources, measure: Measure) -> Cell:
    found: list[Part] = []
    for name in measure.sources:
        source = of.thresholds.sources[name]
        found += [*([Words("; ")] if found else []), Named(source, "title"), Words(" "), Named(source, "address")]
    return tuple(found)


def _inputs(of: CardSources) -> Section:
    rows: list[tuple[Cell, ...]] = [
        (_words("classification"), (HashOf(of.safeguards, classification=True),)),
        (_words("safeguards"), (HashOf(of.safeguards),)),
        *(((Words("run "), Named(run.plan, "id")), (HashOf(run),)) for run in of.runs),
        *(((Words("file: "), Named(file.kind, "title")), (HashOf(file),)) for file in of.evidence),
    ]
    return _section(
        "inputs",
        2,
        "What this card is made of",
        "The first digits of hashes; the whole ones are in the file card.json. The command lathe card verify computes "
        "the card anew and says whether anything differs.",
        blocks=[Table((Words("what"), Words("hash")), tuple(rows))],
    )


def _behind(of: CardSources) -> Section:
    return _section(
        "trials",
        2,
        "Trials behind the figures",
        "Each trial with its reward, what is in doubt about it, and its places in the report and the journal of its "
        "run.",
        blocks=[Behind(one) for one in of.readings],
    )
