-- Pairs with what their crowd thinks. A contaminated text contaminates every vote on its pair, so
-- the pair goes as a whole.

with

clean_pairs as (

    select distinct pair_key
    from {{ ref('int_comparisons_marked') }}
    where status = 'active'

)

select
    pairs.pair_key as preference_id,
    pairs.prompt,
    pairs.response_a,
    pairs.response_b,
    pairs.prompt_key,
    pairs.response_a_key,
    pairs.response_b_key,
    prompts.group_id,
    {{ split_of('prompts.group_id') }} as split,
    pairs.source,
    pairs.domain,
    pairs.probability_a,
    pairs.votes_a,
    pairs.votes_b,
    pairs.ties,
    pairs.agreement_frac,
    pairs.is_conflict,
    pairs.weight,
    pairs.model_a,
    pairs.model_b,
    pairs.annotator_count,
    pairs.annotator_ids,
    pairs.seconds,
    pairs.cost_usd,
    pairs.licence,
    pairs.record_uids

from {{ ref('int_votes_counted_by_pair') }} as pairs
inner join clean_pairs on pairs.pair_key = clean_pairs.pair_key
inner join {{ ref('int_texts_marked') }} as prompts
    on pairs.prompt_key = prompts.text_key and prompts.role = 'prompt'
