-- Pairs with what their crowd thinks. A pair that came after the last weighing of labels has the share
-- of its votes until the next, with one vote more for each side.
--
-- A view: most of a warehouse is the words of pairs, and they are not copied.

with

pairs as (

    select
        counted.*,
        marked.* exclude (pair_key, probability_a),
        coalesce(
            marked.probability_a,
            round((votes_a + ties / 2 + 1) / (votes_a + votes_b + ties + 2), 6)
        ) as probability_a

    from {{ ref('int_votes_counted_by_pair') }} as counted
    inner join {{ ref('int_pairs_marked') }} as marked on counted.pair_key = marked.pair_key

)

select
    pairs.pair_key as preference_id,
    pairs.prompt,
    pairs.response_a,
    pairs.response_b,
    pairs.prompt_key,
    pairs.response_a_key,
    pairs.response_b_key,
    pairs.group_id,
    {{ split_of('pairs.group_id') }} as split,
    pairs.source,
    pairs.domain,
    pairs.probability_a,
    pairs.probability_tie,
    round(abs(2 * pairs.probability_a - 1), 6) as certainty_frac,
    pairs.votes_a,
    pairs.votes_b,
    pairs.ties,
    pairs.agreement_frac,
    pairs.is_conflict,
    pairs.is_gold,
    pairs.tested_votes,
    pairs.tested_votes_right,
    pairs.tested_votes_for_a,
    pairs.weight,
    pairs.model_a,
    pairs.model_b,
    pairs.annotator_count,
    pairs.annotator_ids,
    pairs.seconds,
    pairs.cost_usd,
    pairs.licence,
    pairs.record_uids

from pairs
