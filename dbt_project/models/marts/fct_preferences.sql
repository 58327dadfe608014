-- Pairs with what their crowd thinks. A contaminated text contaminates every vote on its pair, so
-- the pair goes as a whole. A pair that came after the last weighing of labels has the share of its
-- votes until the next, with one vote more for each side.

with

kept as materialized (

    -- without the words, which these joins would hold in memory
    select
        counted.pair_key,
        prompts.group_id,
        weighed.* exclude (pair_key)

    from {{ ref('int_votes_counted_by_pair') }} as counted
    inner join {{ ref('int_texts_marked') }} as prompts
        on counted.prompt_key = prompts.text_key and prompts.role = 'prompt'
    left join {{ ref('stg_quality__pair_posteriors') }} as weighed
        on counted.pair_key = weighed.pair_key

    where
        counted.pair_key in (
            select pair_key from {{ ref('int_comparisons_marked') }} where status = 'active'
        )

),

pairs as (

    select
        counted.*,
        kept.* exclude (pair_key, probability_a),
        coalesce(
            kept.probability_a,
            round((votes_a + ties / 2 + 1) / (votes_a + votes_b + ties + 2), 6)
        ) as probability_a

    from {{ ref('int_votes_counted_by_pair') }} as counted
    inner join kept on counted.pair_key = kept.pair_key

)

select
    pairs.pair_key as preference_id,
    pairs.prompt,
    pairs.tools,
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
