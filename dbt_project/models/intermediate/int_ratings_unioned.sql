-- Every judgement of a single response as a share of full marks: a rating on its scale, the
-- answer to a criterion, a thumb. What a rating is of its metadata may tell; full marks for a fault
-- are no praise, and weigh nothing.

with

unioned as (

    select
        *,
        coalesce(nullif(json_extract_string(metadata, '$.criterion'), ''), 'rating') as criterion,
        coalesce((rating - rating_min) / nullif(rating_max - rating_min, 0), 1.0) as score_frac,
        if(try_cast(json_extract_string(metadata, '$.weight') as double) = 0, 0.0, 1.0)::double as weight
    from {{ ref('stg_landing__ratings') }}

    union all by name

    select *, score as score_frac
    from {{ ref('stg_landing__rubric_scores') }}

    union all by name

    select
        *,
        'thumbs' as criterion,
        if(thumbs = 'up', 1.0, 0.0)::double as score_frac,
        1.0::double as weight
    from {{ ref('stg_landing__interactions') }}
    where thumbs is not null

)

select
    ---------- ids
    concat_ws(':', record_uid, copy_number) as rating_id,
    record_uid,
    original_uid,
    copy_number,
    first_seen,
    annotator_id,
    prompt_key,
    response_key,

    ---------- strings
    kind,
    source,
    domain,
    group_hint,
    annotator_kind,
    guideline_version,
    licence,
    prompt,
    prompt_text,
    {{ tools_of('metadata') }} as tools,
    response,
    response_text,
    criterion,

    ---------- numerics
    score_frac,
    weight,
    seconds,
    cost_usd,

    ---------- timestamps
    occurred_at

from unioned
