-- Every response that a person would have given: written as such, or as the correction of another.

with

unioned as (

    select * from {{ ref('stg_landing__demonstrations') }}

    union all by name

    select
        * exclude (response, response_text, response_key)
            rename (
                corrected_response as response,
                corrected_response_text as response_text,
                corrected_response_key as response_key
            )
    from {{ ref('stg_landing__critiques') }}
    where corrected_response is not null

    union all by name

    select
        * exclude (response, response_text, response_key)
            rename (
                edited_response as response,
                edited_response_text as response_text,
                edited_response_key as response_key
            )
    from {{ ref('stg_landing__interactions') }}
    where edited_response is not null

)

select
    ---------- ids
    concat_ws(':', record_uid, copy_number) as demonstration_id,
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
    data_subject,
    prompt,
    prompt_text,
    {{ tools_of('metadata') }} as tools,
    response,
    response_text,

    ---------- numerics
    seconds,
    cost_usd

from unioned
