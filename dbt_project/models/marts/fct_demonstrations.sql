select
    record_uid as demonstration_id,
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
    guideline_version,
    1.0::double as weight,
    seconds,
    cost_usd,
    licence,
    data_subject,
    [record_uid] as record_uids

from {{ ref('int_demonstrations_marked') }}

where status = 'active'
