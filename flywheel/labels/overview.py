"""What the marts say of the labels, gathered for one page: people, agreement, what is contested.

A *finding* is a sentence about an annotator whom somebody should talk to, only where an interval
bears it out. A pair is *contested* by the weight that stands against its conclusion: two trusted
annotators at odds come before ten who are coins.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from flywheel.labels.agreement import Z
from flywheel.labels.bradley_terry import crowd_bradley_terry
from flywheel.labels.marks import ANONYMOUS, coded
from flywheel.records.message import load, text_of
from flywheel.warehouse import open_copy, read_table

Row = dict[str, Any]

CONTESTED = 12  # pairs shown
COIN = 0.6  # accuracy that the upper end of an interval must reach
SIDE = 0.05  # of the share of one side beyond one half, before anybody is told
LENGTH = 0.1  # of a bias to length
STEADY = 0.7  # of judgements given again
LEAST_REPEATS = 5
LEAST_MATCHES = 30  # votes between two models
BY_DOMAIN = ["annotator_id", "domain", "compared_count", "accuracy_frac"]

CONTEST = """
with votes as (
    select
        judged.pair_key,
        coalesce(judged.annotator_id, 'anonymous') as annotator_id,
        judged.vote,
        judged.reason,
        coalesce(people.weight, 0) as weight
    from intermediate.int_comparisons_marked as judged
    left join marts.dim_annotators as people
        on coalesce(judged.annotator_id, 'anonymous') = people.annotator_id
    where judged.status = 'active' and not judged.is_gold
),
contested as (
    select
        pair_key,
        least(
            sum(if(vote = 1, weight, 0)), sum(if(vote = 0, weight, 0))
        ) as contest  -- no `filter`: least passes over a null, and a side without votes is 0
    from votes
    group by pair_key
    having contest > 0
    order by contest desc, pair_key
    limit {most}
)
select
    pairs.prompt, pairs.response_a, pairs.response_b, pairs.domain, pairs.probability_a,
    contested.contest, pairs.preference_id,
    list(
        {{
            'annotator_id': votes.annotator_id, 'vote': votes.vote, 'weight': votes.weight,
            'reason': votes.reason
        }}
        order by votes.vote desc, votes.weight desc, votes.annotator_id
    ) as votes
from contested
inner join marts.fct_preferences as pairs on contested.pair_key = pairs.preference_id
inner join votes on contested.pair_key = votes.pair_key
group by all
order by contested.contest desc, pairs.preference_id
"""
MATCHES = """
select model_a, model_b, vote, coalesce(annotator_id, 'anonymous') as annotator_id
from intermediate.int_comparisons_marked
where status = 'active' and model_a <> model_b
"""


@dataclass(frozen=True, slots=True)
class Overview:
    """Rows of the marts, and what follows from them.

    Attributes:
        annotators: Rows of `dim_annotators`, those with the most labels first.
        domains: Rows of `dim_annotators_by_domain`, of which the columns `BY_DOMAIN`.
        agreement: Rows of `fct_label_agreement`, overall first.
        findings: Who should be talked to, and why; those with the most to talk about first.
        contested: Pairs with the most weight on both sides: texts, chance and votes.
        models: Strength of each model by what annotators preferred, the best first.
    """

    annotators: list[Row]
    domains: list[Row]
    agreement: list[Row]
    findings: list[tuple[str, list[str]]]
    contested: list[Row]
    models: list[Row]

    def overall(self, kind: str = "comparison") -> Row | None:
        """The agreement of one kind of label over everything; None where none was shared."""
        every = (kind, "all", "all")
        return next(
            (
                row
                for row in self.agreement
                if (row["kind"], row["domain"], row["guideline_version"]) == every
            ),
            None,
        )

    def against_others(self) -> float | None:
        """Share of tested votes that side with the weighted vote of the others."""
        tested = [
            (one["tested_votes"], one["agreement_with_others_frac"]) for one in self.annotators
        ]
        count = sum(made for made, _ in tested)
        return sum(made * (share or 0) for made, share in tested) / count if count else None


def overview(database: Path) -> Overview:
    """Read the marts.

    Raises:
        WarehouseError: The marts are not built, or the warehouse is missing or locked.
    """
    people = read_table(database, "marts.dim_annotators").to_pylist()
    people.sort(key=lambda one: (-one["label_count"], one["annotator_id"]))
    agreement = read_table(database, "marts.fct_label_agreement").to_pylist()
    agreement.sort(key=lambda one: [one["kind"], *_first(one["domain"], one["guideline_version"])])
    told = [
        (one["annotator_id"], said)
        for one in people
        if one["annotator_id"] != ANONYMOUS and (said := findings(one))  # or nobody to talk to
    ]
    with open_copy(database) as connection:
        contested = connection.sql(CONTEST.format(most=CONTESTED)).to_arrow_table().to_pylist()
        matches = connection.sql(MATCHES).to_arrow_table()
    return Overview(
        annotators=people,
        domains=read_table(database, "marts.dim_annotators_by_domain", BY_DOMAIN).to_pylist(),
        agreement=agreement,
        findings=sorted(told, key=lambda one: -len(one[1])),
        contested=[row | _texts(row) for row in contested],
        models=_models(matches),
    )


def findings(one: Row) -> list[str]:
    """What stands out about an annotator, each borne out by an interval or a count."""
    said = []
    if one["accuracy_high"] is not None and one["accuracy_high"] < COIN:
        said.append(
            f"is right {one['accuracy_frac']:.0%} of the time, {one['accuracy_high']:.0%} at most: "
            "hardly better than a coin"
        )
    low, high = one["left_share_low"], one["left_share_high"]
    if low is not None and (low > 0.5 + SIDE or high < 0.5 - SIDE):
        which = "first" if low > 0.5 else "second"
        share = one["left_share"] if low > 0.5 else 1 - one["left_share"]
        said.append(f"prefers what is shown {which} {share:.0%} of the time")
    low, high = one["length_bias_low"], one["length_bias_high"]
    if low is not None and (low > LENGTH or high < -LENGTH):
        which = "longer" if low > 0 else "shorter"
        said.append(
            f"leans to the {which} response, whatever it is worth ({one['length_bias']:+.2f})"
        )
    if one["is_fast"]:
        said.append(
            f"takes {one['median_seconds']:.0f} s, {one['fast_frac']:.0%} of labels in less than a "
            "third of the usual time"
        )
    if one["repeated_count"] >= LEAST_REPEATS and one["self_consistency"] < STEADY:
        said.append(
            f"decided {1 - one['self_consistency']:.0%} of {one['repeated_count']} pairs otherwise "
            "when asked again"
        )
    return said


def _first(*names: str) -> list[tuple[bool, str]]:
    return [(name != "all", name) for name in names]


def _texts(row: Row) -> Row:
    return {name: text_of(load(row[name])) for name in ("prompt", "response_a", "response_b")}


def _models(matches: pa.Table) -> list[Row]:
    """Strengths by Bradley and Terry with ties, annotators of unlike reliability told apart."""
    if len(matches) < LEAST_MATCHES:
        return []
    count = len(matches)
    codes, names = coded(
        pa.chunked_array([*matches["model_a"].chunks, *matches["model_b"].chunks], pa.string())
    )
    first, second = codes[:count], codes[count:]
    who, _ = coded(matches["annotator_id"])
    vote = matches["vote"].to_numpy()
    outcome = np.where(vote == 1, 0, np.where(vote == 0, 1, 2))
    found = crowd_bradley_terry(first, second, outcome, who)
    half = Z * np.sqrt(found.variance)
    votes = np.bincount(codes, minlength=len(names))  # a model is never matched with itself
    rows = [
        {"model": name, "strength": value, "low": value - wide, "high": value + wide, "votes": made}
        for name, value, wide, made in zip(
            names, found.strength.tolist(), half.tolist(), votes.tolist(), strict=True
        )
    ]
    return sorted(rows, key=lambda row: -row["strength"])
