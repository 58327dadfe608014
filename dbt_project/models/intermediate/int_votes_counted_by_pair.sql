-- What a crowd thinks of a pair. probability_a is the share of votes for a, each weighted by the
-- reliability w of its annotator (accuracy q = (1 + w) / 2), a tie counting half, smoothed by
-- 1 - mean(w) votes that are undecided: a single vote comes out as q, and many sure ones as 1.

with

votes as (

    select votes.*, annotators.weight as reliability
    from {{ ref('int_comparisons_deduplicated') }} as votes
    inner join {{ ref('int_annotators_scored') }} as annotators
        on coalesce(votes.annotator_id, 'anonymous') = annotators.annotator_id
    where votes.status = 'active'

)

select
    ---------- ids
    pair_key,
    prompt_key,
    response_a_key,
    response_b_key,

    ---------- strings
    arg_min(prompt, judgement_id) as prompt,
    arg_min(response_a, judgement_id) as response_a,
    arg_min(response_b, judgement_id) as response_b,
    min(source) as source,
    min(domain) as domain,
    min(model_a) as model_a,
    min(model_b) as model_b,
    min(licence) as licence,

    ---------- numerics
    round(
        (sum(reliability * vote) + 0.5 * (1 - avg(reliability)))
        / (sum(reliability) + 1 - avg(reliability)),
        6
    ) as probability_a,
    count(*) filter (vote = 1) as votes_a,
    count(*) filter (vote = 0) as votes_b,
    count(*) filter (vote = 0.5) as ties,
    greatest(votes_a, votes_b, ties) / count(*) as agreement_frac,
    votes_a > 0 and votes_b > 0 as is_conflict,
    max(weight) as weight,
    count(distinct voter) as annotator_count,
    round(sum(seconds), 6) as seconds,
    round(sum(cost_usd), 6) as cost_usd,

    ---------- lists
    list_sort(coalesce(list(distinct annotator_id) filter (annotator_id is not null), []))
        as annotator_ids,
    list_sort(list(distinct record_uid)) as record_uids

from votes

group by pair_key, prompt_key, response_a_key, response_b_key
