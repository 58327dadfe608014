-- A prompt asked twice by one set counts once, as it was first delivered.

with

ordered as (

    select
        *,
        row_number() over (
            partition by evaluation_set, prompt_key order by first_seen, record_uid
        ) as same_number

    from {{ ref('stg_landing__evaluation_prompts') }}

)

select
    md5(concat_ws('|', ordered.evaluation_set, ordered.prompt_key)) as evaluation_prompt_id,
    ordered.prompt,
    ordered.prompt_key,
    coalesce(prompt_groups.group_id, ordered.prompt_key) as group_id,
    ordered.evaluation_set,
    ordered.grader,
    ordered.reference,
    ordered.domain,
    ordered.source,
    ordered.licence,
    [ordered.record_uid] as record_uids

from ordered
left join {{ ref('stg_quality__prompt_groups') }} as prompt_groups
    on ordered.prompt_key = prompt_groups.prompt_key

where ordered.same_number = 1
