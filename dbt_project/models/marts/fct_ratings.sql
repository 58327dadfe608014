select
    rating_id,
    prompt,
    tools,
    response,
    prompt_key,
    response_key,
    group_id,
    {{ split_of('group_id') }} as split,
    source,
    domain,
    annotator_id,
    annotator_kind,
    criterion,
    score_frac,
    weight,
    seconds,
    cost_usd,
    licence,
    [record_uid] as record_uids

from {{ ref('int_ratings_marked') }}

where status = 'active'
