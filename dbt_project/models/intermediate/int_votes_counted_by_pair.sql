-- The votes on each pair. What they come to, with every annotator weighed by his errors, is
-- estimated outside SQL (flywheel/labels) and joined in fct_preferences.

with

votes as (

    select *, coalesce(licence, 'unknown') as terms
    from {{ ref('int_comparisons_deduplicated') }}
    where status = 'active'

),

counted as (

-- lists made distinct by pair: a `distinct` aggregate keeps a hash table for each of them
select
    ---------- ids
    min(judgement_id) as first_judgement_id,
    pair_key,
    min(prompt_key) as prompt_key,
    min(response_a_key) as response_a_key,
    min(response_b_key) as response_b_key,
    arg_min(is_turned, judgement_id) as is_turned,

    ---------- strings
    nullif(array_to_string(list_sort(list_distinct(list(source))), ', '), '') as source,
    min(domain) as domain,
    min(model_a) as model_a,
    min(model_b) as model_b,
    array_to_string(list_sort(list_distinct(list(terms))), ', ') as licence,

    ---------- numerics
    count(*) filter (vote = 1) as votes_a,
    count(*) filter (vote = 0) as votes_b,
    count(*) filter (vote = 0.5) as ties,
    greatest(votes_a, votes_b, ties) / count(*) as agreement_frac,
    votes_a > 0 and votes_b > 0 as is_conflict,
    bool_or(is_gold) as is_gold,
    max(weight) as weight,
    len(list_distinct(list(voter))) as annotator_count,
    round(sum(seconds), 6) as seconds,
    round(sum(cost_usd), 6) as cost_usd,

    ---------- lists
    list_sort(list_distinct(list(annotator_id))) as annotator_ids,
    list_sort(list_distinct(list(record_uid))) as record_uids

from votes

group by pair_key

)

-- the words are fetched from the pair's first vote: an aggregate would hold them all in memory
select
    counted.* exclude (first_judgement_id, is_turned),
    shown.prompt,
    if(is_turned, shown.response_b, shown.response_a) as response_a,
    if(is_turned, shown.response_a, shown.response_b) as response_b

from {{ ref('int_comparisons_unioned') }} as shown
inner join counted on shown.judgement_id = counted.first_judgement_id
