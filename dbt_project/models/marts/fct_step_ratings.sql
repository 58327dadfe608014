-- Steps with how good annotators found them, on average. A step weighs as many ratings as it has: the
-- cross-entropy against their mean, so weighted, is that against each of them.

with

ratings as (

    select * exclude (step_rating_id), step_rating_id as rating_id, coalesce(licence, 'unknown') as terms
    from {{ ref('int_step_ratings_marked') }}
    where status = 'active'

)

select
    md5(concat_ws('|', prompt_key, steps_key)) as step_rating_id,
    arg_min(prompt, rating_id) as prompt,
    arg_min({{ tools_of('metadata') }}, rating_id) as tools,
    arg_min(steps, rating_id) as steps,
    prompt_key,
    steps_key,
    min(group_id) as group_id,
    {{ split_of('min(group_id)') }} as split,
    string_agg(distinct source, ', ' order by source) as source,
    min(domain) as domain,
    min(step_count) as step_number,
    round(avg(score_frac), 6) as score_frac,
    count(*)::double as weight,
    list_sort(coalesce(list(distinct annotator_id) filter (annotator_id is not null), []))
        as annotator_ids,
    min(model) as model,
    round(sum(seconds), 6) as seconds,
    round(sum(cost_usd), 6) as cost_usd,
    string_agg(distinct terms, ', ' order by terms) as licence,
    list_sort(list(record_uid)) as record_uids

from ratings

group by prompt_key, steps_key
