from __future__ import annotations

from pathlib import Path

import pytest

from lathe.guard import policy, taxonomy
from lathe.guard.policy import Policy
from lathe.guard.taxonomy import Authority, Taxonomy
from lathe.protocol.errors import ConfigError

CLAUSES = taxonomy.SHIPPED.read_text()
RULES = policy.SHIPPED.read_text()


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "reviewed.yaml"
    path.write_text(text)
    return path


def test_the_hash_is_of_what_is_said_and_not_of_how_it_is_laid_out(tmp_path: Path) -> None:
    shipped = Taxonomy.load()
    laid_out_anew = "# another comment\n" + CLAUSES.replace("id: work.ordinary", "id:   'work.ordinary'")
    assert Taxonomy.load(written(tmp_path, laid_out_anew)).hash == shipped.hash
    said_otherwise = CLAUSES.replace("title: ordinary work", "title: usual work")
    assert Taxonomy.load(written(tmp_path, said_otherwise)).hash != shipped.hash


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("version: 1", "version: [", "line"),
        ("version: 1\n", "version: 1\nversion: 2\n", "the key 'version' stands twice"),
        ("version: 1\n", "version: &one 1\nother: *one\n", "an alias is not taken"),
        ("version: 1", "version: many", "Expected `int`, got `str`"),
        ("title: ordinary work", "titel: ordinary work", "unknown field `titel`"),
        ("- id: work.ordinary", "- id: Work", "is no id, such as exploit.chain"),
        ("- id: work.security_upkeep", "- id: work.ordinary", "stands there twice"),
        ("code: cyber_none", "code: cyber-none", "which is no word such as"),
        ("code: cyber_none", "code: cyber_upkeep", "has the reason code of"),
        ("      allowed_by: [{}]\n", "", "is benign but not allowed to everybody"),
        ("cyber.offensive: authorised", "verified: authorised", "'verified' is no word for a scope"),
        ("scope: [cyber.research]}", "scope: [cyber.unheard]}", "names the scope cyber.unheard"),
        ("- {tier: specialist, scope: [cyber.offensive], targets: engaged}", "- {tier: specialist}", "at any target"),
        ("a scanner., belongs: assess.own", "a scanner., belongs: assess.nobody", "which is no other clause"),
        ("targets: [third]}", "targets: [own]}", "by its ways it is allowed"),
    ],
)
def test_each_fault_of_a_taxonomy_is_told_in_one_sentence(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    assert old in CLAUSES
    with pytest.raises(ConfigError) as told:
        Taxonomy.load(written(tmp_path, CLAUSES.replace(old, new, 1)))
    assert sentence in told.value.message
    assert str(tmp_path) in told.value.message and "\n" not in told.value.message


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("decides: 0.8", "decides: 0.4", "doubts no greater than decides"),
        ("act: withhold}", "act: log}", "lets risky acts pass when it is wrong"),
        ("late: {text: log, flagged: log, act: hold}", "late: {text: log, act: hold}", "no step for flagged"),
        ("only_read: log", "only_read: refuse", "stops people for what they have read"),
        ("pause_after: 5", "pause_after: 1", "one block never stops a thread"),
        ("pause_after: 5", "pause_after: 5\nmore: 1", "unknown field `more`"),
        ("benign: {allowed: allow}", "benign: {allowed: refuse}", "stops what is benign"),
        ("allowed: log\n", "allowed: withhold\n", "stops what is allowed"),
        ("verified: offer, ", "", "says nothing of the tier verified"),
        ("default: refuse", "default: restrict", "two people decide that"),
        ("then: withhold", "then: hold", "holds must end"),
        ("ungated: {offer: log}", "ungated: {refuse: log}", "and nothing else"),
        ("judges: false", "judges: true", "the monitor topical must not judge"),
    ],
)
def test_each_fault_of_a_policy_is_told_in_one_sentence(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    assert old in RULES
    with pytest.raises(ConfigError) as told:
        Policy.load(written(tmp_path, RULES.replace(old, new, 1)))
    assert sentence in told.value.message and "\n" not in told.value.message


def test_a_file_that_is_not_there_is_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be read: No such file"):
        Taxonomy.load(tmp_path / "none.yaml")


def test_what_is_harmful_is_allowed_to_nobody_at_a_target_of_others() -> None:
    shipped = Taxonomy.load()
    everything = tuple(shipped.scopes)
    for clause in shipped.levels["harmful"]:
        for relation in ("third", "unclear"):
            assert clause.way(Authority("specialist", everything, (relation,))) is None, clause.id
    assert not any(shipped.clauses[one].allowed_by for one in ("malware.create", "data.exfiltrate", "systems.destroy"))


def test_a_policy_is_named_by_its_rules_and_its_taxonomy(tmp_path: Path) -> None:
    shipped = Policy.load()
    other = Taxonomy.load(written(tmp_path, CLAUSES.replace("title: ordinary work", "title: usual work")))
    assert Policy.load(taxonomy=other).hash != shipped.hash
    assert Policy.load(written(tmp_path, RULES.replace("pause_after: 5", "pause_after: 6"))).hash != shipped.hash
