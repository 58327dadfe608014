-- The votes on each pair. What they come to, with every annotator weighed by his errors, is
-- estimated outside SQL (flywheel/labels) and joined in fct_preferences. Pairs of which a new batch
-- tells are counted again.

{% set since = built_through() if is_incremental() else none %}

with

votes as not materialized (

    select *, coalesce(licence, 'unknown') as terms
    from {{ ref('int_comparisons_deduplicated') }}
    where
        status = 'active'
        {% if since %}
        and pair_key in (
            select pair_key from {{ ref('int_comparisons_deduplicated') }}
            where batch_id > '{{ since }}'
        )
        {% endif %}

),

counted as (

    -- lists are made distinct by pair (a `distinct` aggregate keeps a hash table for each), and as few
    -- as can be: they are what an aggregate cannot put on the disk
    select
        pair_key,
        min(judgement_id) as first_judgement_id,
        arg_min(batch_id, judgement_id) as first_batch_id,
        min(domain) as domain,
        min(model_a) as model_a,
        min(model_b) as model_b,
        min(source) as first_source,
        max(source) as last_source,
        min(terms) as first_terms,
        max(terms) as last_terms,
        count(*) filter (vote = 1) as votes_a,
        count(*) filter (vote = 0) as votes_b,
        count(*) filter (vote = 0.5) as ties,
        greatest(votes_a, votes_b, ties) / count(*) as agreement_frac,
        votes_a > 0 and votes_b > 0 as is_conflict,
        bool_or(is_gold) as is_gold,
        max(weight) as weight,
        -- one vote of a voter is active; one without a name is a voter of its own
        count(*) filter (annotator_id is null) as nameless_count,
        round(sum(seconds), 6) as seconds,
        round(sum(cost_usd), 6) as cost_usd,
        list(annotator_id) filter (annotator_id is not null) as named,
        list(record_uid) as record_uids

    from votes

    group by pair_key

),

mixed as (

    -- those few with several sources or terms
    select
        pair_key,
        string_agg(distinct source, ', ' order by source) as sources,
        string_agg(distinct terms, ', ' order by terms) as terms

    from votes

    where
        pair_key in (
            select pair_key from counted
            where first_source <> last_source or first_terms <> last_terms
        )

    group by pair_key

)

{% if since %}
, unsaid as (

    -- of a pair whose first vote is the one that it was, the words are here already
    select first_judgement_id, first_batch_id from counted
    where first_judgement_id not in (select first_judgement_id from {{ this }})

), said as (

    select
        judgement_id, prompt_key, response_a_key, response_b_key, prompt, tools, response_a,
        response_b
    from {{ ref('int_comparisons_unioned') }} as shown
    semi join unsaid
        on shown.judgement_id = unsaid.first_judgement_id
        and shown.batch_id = unsaid.first_batch_id

    union all

    select
        first_judgement_id, prompt_key, response_a_key, response_b_key, prompt, tools, response_a,
        response_b
    from {{ this }}

)
{% endif %}

-- the words are fetched from the pair's first vote: an aggregate would hold them all in memory
select
    ---------- ids
    counted.pair_key,
    counted.first_judgement_id,
    shown.prompt_key,
    least(shown.response_a_key, shown.response_b_key) as response_a_key,
    greatest(shown.response_a_key, shown.response_b_key) as response_b_key,

    ---------- strings
    coalesce(mixed.sources, counted.first_source) as source,
    counted.domain,
    counted.model_a,
    counted.model_b,
    coalesce(mixed.terms, counted.first_terms) as licence,

    ---------- numerics
    counted.votes_a,
    counted.votes_b,
    counted.ties,
    counted.agreement_frac,
    counted.is_conflict,
    counted.is_gold,
    counted.weight,
    coalesce(len(list_distinct(counted.named)), 0) + counted.nameless_count as annotator_count,
    counted.seconds,
    counted.cost_usd,

    ---------- lists
    list_sort(coalesce(list_distinct(counted.named), [])) as annotator_ids,
    list_sort(list_distinct(counted.record_uids)) as record_uids,

    ---------- words
    shown.prompt,
    shown.tools,
    if(shown.response_a_key > shown.response_b_key, shown.response_b, shown.response_a) as response_a,
    if(shown.response_a_key > shown.response_b_key, shown.response_a, shown.response_b) as response_b

from {{ 'said' if since else ref('int_comparisons_unioned') }} as shown
inner join counted on shown.judgement_id = counted.first_judgement_id
left join mixed on counted.pair_key = mixed.pair_key
