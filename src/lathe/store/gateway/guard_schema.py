"""The tables of the guard: decisions, what is set aside, appeals, and what holds for actors. See `schema`."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, ForeignKey, Index, String, Table

from lathe.store.gateway.columns import id_of, metadata, text, time

decisions = Table(
    "decisions",
    metadata,
    id_of(),
    time("at"),
    # the request that it was of
    Column("request", String(64), nullable=False, index=True),
    Column("replica", String(64), nullable=False),
    Column("organisation", String(64), nullable=False),
    Column("project", String(64), nullable=False),
    Column("user", String(64), nullable=False, default=""),
    Column("key", String(64), nullable=False),
    # by what the conversation is known again: a salted hash
    Column("thread", String(64), nullable=False, default=""),
    Column("surface", String(20), nullable=False),
    # what followed (guard/ladder.py: Measure)
    Column("step", String(20), nullable=False),
    Column("scope", String(20), nullable=False),
    Column("clause", String(64), nullable=False, default="", index=True),
    Column("code", String(64), nullable=False, default=""),
    Column("concern", String(20), nullable=False, default="misuse"),
    Column("policy", String(64), nullable=False),
    # {"situation", "measure", "notice"} as JSON: where the evidence lies, never the text that was judged
    text("body"),
    # the entry of the actor's ledger as JSON, "" where nothing of it counts
    text("entry"),
    # what was judged, as JSON, where the project keeps everything
    text("material"),
    # tokens and micro-dollars that the request took although it was stopped
    Column("tokens", BigInteger, nullable=False, default=0),
    Column("cost", BigInteger, nullable=False, default=0),
    # the appeal that has reversed it
    Column("reversed_by", String(64), nullable=False, default=""),
    Index("ix_decisions_project_at", "project", "at"),
    Index("ix_decisions_organisation_at", "organisation", "at"),
    Index("ix_decisions_at", "at"),
)

decision_marks = Table(
    "decision_marks",
    metadata,
    # whom a decision with an entry is about: salted hashes (guard/ledger.py)
    Column("mark", String(64), primary_key=True),
    Column("decision", String(64), ForeignKey("decisions.id"), primary_key=True),
)

blocked = Table(
    "blocked",
    metadata,
    # items that are set aside in conversations of a project: a salted hash of what they say
    Column("project", String(64), primary_key=True),
    Column("item", String(64), primary_key=True),
    Column("decision", String(64), nullable=False, index=True),
    Column("code", String(64), nullable=False),
    Column("clause", String(64), nullable=False),
    # what an item that a model made is called
    Column("item_id", String(200), nullable=False, default=""),
    # blocked; released by a reversal; served later, with an access or by another model
    Column("state", String(20), nullable=False, default="blocked"),
    Column("at", BigInteger, nullable=False, index=True),
)

appeals = Table(
    "appeals",
    metadata,
    id_of(),
    # a decision, or a proposal that took effect
    Column("decision", String(64), nullable=False, index=True),
    Column("organisation", String(64), nullable=False, index=True),
    Column("project", String(64), nullable=False, default=""),
    Column("by", String(64), nullable=False),
    # open, taken, upheld, reversed, withdrawn
    Column("state", String(20), nullable=False, index=True),
    time("at"),
    time("due"),
    time("decided", null=True),
    # the whole of it as JSON (guard/appeals.py: Appeal)
    text("body"),
    # what a reversal has put right, and the regression case that it has become, as JSON
    text("repair"),
    text("case"),
)

proposals = Table(
    "proposals",
    metadata,
    id_of(),
    Column("organisation", String(64), nullable=False, default=""),
    # the whole of it as JSON (guard/ledger.py: Proposal); reviews are in the table `reviews`
    text("body"),
    # what is to hold: clear, restricted, suspended
    Column("wanted", String(20), nullable=False),
    # open, in_force, declined, lifted
    Column("state", String(20), nullable=False, index=True),
    time("at"),
    time("decided", null=True),
)

standings = Table(
    "standings",
    metadata,
    # a salted hash of an actor's name
    Column("mark", String(64), primary_key=True),
    Column("state", String(20), nullable=False),
    # the people who decided it; fewer than two, and it does not hold
    Column("reviewers", JSON, nullable=False),
    Column("proposal", String(64), nullable=False),
    time("at"),
)

notices = Table(
    "notices",
    metadata,
    id_of(),
    # whom it is for
    Column("user", String(64), nullable=False, index=True),
    Column("organisation", String(64), nullable=False),
    # decision, account, appeal
    Column("kind", String(20), nullable=False),
    Column("of", String(64), nullable=False),
    text("body"),
    time("at"),
    time("seen", null=True),
    time("mailed", null=True),
)
