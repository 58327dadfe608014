"""Weigh all votes of the warehouse and write what the marts take over: posteriors and reliability.

Three derived files, rewritten whole, so that they can be thrown away at any time. *Posteriors*: one
row per pair of responses. *Reliability*: one row per annotator, and one per annotator and domain;
everybody without a name is one annotator here, 'anonymous'. *Agreement*: Krippendorff's alpha of
comparisons and of ratings, overall, by domain and by version of the guidelines.

Only votes count that are active before deduplication has marked texts: what overlaps an evaluation
is left out of training, but says as much about annotators as any other vote. A gold judgement
(`gold: true` in the metadata of its record) is the known answer of its pair, and no vote.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from flywheel.errors import SettingsError
from flywheel.labels.agreement import Level, krippendorff, wilson
from flywheel.labels.bias import length_bias
from flywheel.labels.dawid_skene import Floats, Ints
from flywheel.labels.habits import DOMAIN_STRENGTH, STRENGTH, TIE
from flywheel.labels.pairs import Trust, Votes, Weighed, weigh
from flywheel.lake import DERIVED, write_table
from flywheel.layout import Layout
from flywheel.warehouse import read_table

COMPARISONS = "intermediate.int_comparisons_deduplicated"
RATINGS = "intermediate.int_ratings_unioned"
ANONYMOUS = "anonymous"
STEPS = 20  # of a scale that a rating is rounded to, so that alpha has classes


@dataclass(frozen=True, slots=True)
class Report:
    """What was written: for each derived file, numbers for the Dagster UI."""

    pair_posteriors: dict[str, Any]
    annotator_reliability: dict[str, Any]
    label_agreement: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Read:
    """Votes as codes, and what the codes stand for."""

    votes: Votes
    longer: Ints  # per vote: 0 where response a is the longer, 1 where b is, -1 for neither
    guideline: Ints  # per vote; the last code is none
    pairs: list[str]
    annotators: list[str]
    domains: list[str | None]
    guidelines: list[str | None]


def weigh_labels(
    database: Path,
    layout: Layout,
    *,
    strength: float = STRENGTH,
    domain_strength: float = DOMAIN_STRENGTH,
    log: Callable[[str], object] = print,
) -> Report:
    """Read every vote from the warehouse and write the derived files of `layout`.

    Raises:
        SettingsError: A strength is not above 0.
        WarehouseError: The intermediate models are not built, or the warehouse is missing or
            locked.
    """
    if min(strength, domain_strength) <= 0:
        raise SettingsError(
            f"strength and domain_strength must be above 0, got {strength} and {domain_strength}; "
            "repair [labels] in settings.toml"
        )
    read = _read_votes(database)
    found = weigh(read.votes, strength=strength, domain_strength=domain_strength)
    posteriors = _posteriors(read, found)
    reliability = _reliability(read, found.trust)
    agreement = [*_of_comparisons(read), *_of_ratings(database)]
    for name, table in (
        ("pair_posteriors", posteriors),
        ("annotator_reliability", reliability),
        ("label_agreement", pa.Table.from_pylist(agreement, DERIVED["label_agreement"])),
    ):
        write_table(table, layout.derived(name))
    tested, right = int(found.tested.sum()), int(found.tested_right.sum())
    alpha = agreement[0]["alpha"] if agreement else None
    log(
        f"weighed {len(read.votes.vote)} votes of {len(read.annotators)} annotators on "
        f"{len(read.pairs)} pairs in {found.rounds} rounds; {right} of {tested} votes that others "
        "could be set against agree with them"
    )
    return Report(
        pair_posteriors={
            "dagster/row_count": len(read.pairs),
            "votes": len(read.votes.vote),
            "gold_pairs": int((read.votes.truth >= 0).sum()),
            "rounds": found.rounds,
            "true_ties_frac": float(found.prior[TIE]),
            "agreement_with_others_frac": right / tested if tested else None,
        },
        annotator_reliability={
            "dagster/row_count": reliability.num_rows,
            "annotators": len(read.annotators),
            "strength": strength,
            "domain_strength": domain_strength,
        },
        label_agreement={"dagster/row_count": len(agreement), "alpha": alpha},
    )


def _read_votes(database: Path) -> _Read:
    columns = ["pair_key", "annotator_id", "domain", "guideline_version", "vote", "longer_side"]
    table = read_table(database, COMPARISONS, [*columns, "is_gold", "status"])
    table = table.filter(pc.equal(table["status"], "active"))
    who = pc.fill_null(table["annotator_id"], ANONYMOUS)
    pair, pairs = coded(table["pair_key"])
    said = np.asarray(table["vote"].to_numpy())
    vote = np.where(said == 1, 0, np.where(said == 0, 1, TIE)).astype(np.intp)
    gold = np.asarray(table["is_gold"].to_numpy(zero_copy_only=False), bool)
    answers = np.zeros((len(pairs), 3), bool)
    answers[pair[gold], vote[gold]] = True
    truth = np.where(answers.sum(axis=1) == 1, answers.argmax(axis=1), -1)  # or they contradict
    table, who = table.filter(pa.array(~gold)), who.filter(pa.array(~gold))
    annotator, annotators = coded(who)
    domain, domains = coded(table["domain"])
    guideline, guidelines = coded(table["guideline_version"])
    side = np.asarray(table["longer_side"].to_numpy())
    longer = np.where(side > 0, 0, np.where(side < 0, 1, -1)).astype(np.intp)
    pair, vote = pair[~gold], vote[~gold]
    order = np.lexsort((guideline, domain, vote, annotator, pair))  # sums of floats know an order
    return _Read(
        votes=Votes(
            pair=pair[order],
            annotator=annotator[order],
            domain=domain[order],
            vote=vote[order],
            truth=truth,
        ),
        longer=longer[order],
        guideline=guideline[order],
        pairs=pairs,
        annotators=annotators,
        domains=domains,
        guidelines=guidelines,
    )


def coded(column: pa.ChunkedArray) -> tuple[Ints, list[Any]]:
    """Codes of values in their order, so that results do not depend on the order of rows."""
    coded = column.dictionary_encode(null_encoding="encode").combine_chunks()
    order = np.asarray(pc.sort_indices(coded.dictionary))  # a null comes last
    rank = np.empty(len(order), np.intp)
    rank[order] = np.arange(len(order))
    return rank[np.asarray(coded.indices)], coded.dictionary.take(pa.array(order)).to_pylist()


def _posteriors(read: _Read, found: Weighed) -> pa.Table:
    return pa.table(
        {
            "pair_key": read.pairs,
            "probability_a": found.probability_a.round(6),
            "probability_tie": found.probability_tie.round(6),
            "tested_votes": found.tested,
            "tested_votes_right": found.tested_right,
            "tested_votes_for_a": found.tested_for_a,
        },
        schema=DERIVED["pair_posteriors"],
    )


def _reliability(read: _Read, trust: Trust) -> pa.Table:
    count, overall = len(trust.annotator), trust.domain < 0
    low, high = wilson(trust.accuracy, trust.evidence)
    bias = np.full((3, count), np.nan)
    bias[:, : len(read.annotators)] = length_bias(
        read.votes.pair, read.votes.annotator, read.votes.vote, read.longer, len(read.annotators)
    )
    return pa.table(
        {
            "annotator_id": [read.annotators[one] for one in trust.annotator],
            "domain": [None if one < 0 else read.domains[one] for one in trust.domain],
            "is_overall": overall,
            "vote_count": trust.votes,
            "compared_count": trust.compared,
            "agreement_frac": _nulls(trust.right / np.where(trust.sides, trust.sides, np.nan)),
            "accuracy_frac": trust.accuracy.round(6),
            "accuracy_low": low.round(6),
            "accuracy_high": high.round(6),
            "gold_count": trust.gold,
            "gold_right_count": trust.gold_right,
            "tested_votes": trust.tested,
            "tested_votes_right": trust.tested_right,
            "length_bias": _nulls(bias[0]),
            "length_bias_low": _nulls(bias[1]),
            "length_bias_high": _nulls(bias[2]),
        },
        schema=DERIVED["annotator_reliability"],
    )


def _nulls(values: Floats) -> pa.Array:
    return pa.array(values.round(6), from_pandas=True)


def _of_comparisons(read: _Read) -> list[dict[str, Any]]:
    """Of votes with a name: two without one may be the same person's."""
    votes, people = read.votes, np.array([one != ANONYMOUS for one in read.annotators], bool)
    named = people[votes.annotator]
    return _by_slice(
        "comparison", "nominal", (votes.pair[named], votes.vote[named], 3), votes.domain[named],
        read.domains, read.guideline[named], read.guidelines,
    )  # fmt: skip


def _of_ratings(database: Path) -> list[dict[str, Any]]:
    """Of ratings and rubric scores: one item is a response under one criterion."""
    columns = ["prompt_key", "response_key", "criterion", "annotator_id", "score_frac", "domain"]
    table = read_table(
        database, RATINGS, [*columns, "guideline_version", "copy_number", "rating_id", "kind"]
    )
    named = pc.and_(pc.equal(table["copy_number"], 1), pc.is_valid(table["annotator_id"]))
    table = table.filter(named).sort_by("rating_id")
    found = []
    for kind in ("rating", "rubric_score"):
        part = table.filter(pc.equal(table["kind"], kind))
        item, _ = coded(pc.binary_join_element_wise(*(part[one] for one in columns[:3]), "|"))
        who, people = coded(part["annotator_id"])
        again = item * max(1, len(people)) + who
        last = len(again) - 1 - np.unique(again[::-1], return_index=True)[1]  # one voice each
        score = np.asarray(part["score_frac"].to_numpy())
        label = np.clip(np.rint(score * STEPS), 0, STEPS).astype(np.intp)
        domain, domains = coded(part["domain"])
        guideline, guidelines = coded(part["guideline_version"])
        found += _by_slice(
            kind, "interval", (item[last], label[last], STEPS + 1), domain[last], domains,
            guideline[last], guidelines,
        )  # fmt: skip
    return found


def _by_slice(
    kind: str,
    level: Level,
    labels: tuple[Ints, Ints, int],
    domain: Ints,
    domains: list[str | None],
    guideline: Ints,
    guidelines: list[str | None],
) -> list[dict[str, Any]]:
    """Overall, then by domain, by guideline, and by both where each has several."""
    item, label, classes = labels
    both = len(domains) > 1 and len(guidelines) > 1
    every = range(len(domains))
    slices: list[tuple[int, int]] = [(-1, -1)]
    slices += [(one, -1) for one in every if len(domains) > 1]
    slices += [(-1, one) for one in range(len(guidelines)) if len(guidelines) > 1]
    slices += [(one, other) for one in every for other in range(len(guidelines)) if both]
    rows = []
    for one, other in slices:
        inside: npt.NDArray[np.bool_] = np.ones(len(item), bool)
        inside &= (domain == one) | (one < 0)
        inside &= (guideline == other) | (other < 0)
        found = krippendorff(item[inside], label[inside], classes=classes, level=level)
        if found.items:
            rows.append(
                {
                    "kind": kind,
                    "level": level,
                    "domain": _name(domains, one),
                    "guideline_version": _name(guidelines, other),
                    "item_count": found.items,
                    "label_count": found.labels,
                    "agreement_frac": found.share,
                    "alpha": found.alpha,
                    "alpha_low": found.ci[0] if found.ci else None,
                    "alpha_high": found.ci[1] if found.ci else None,
                }
            )
    return rows


def _name(names: list[str | None], code: int) -> str:
    return "all" if code < 0 else names[code] or "none"
