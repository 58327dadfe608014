select
    md5(concat_ws('|', prompts.evaluation_set, prompts.prompt_key)) as evaluation_prompt_id,
    prompts.prompt,
    {{ tools_of('prompts.metadata') }} as tools,
    prompts.prompt_key,
    coalesce(prompt_groups.group_id, prompts.prompt_key) as group_id,
    prompts.evaluation_set,
    prompts.grader,
    prompts.reference,
    prompts.domain,
    prompts.source,
    prompts.licence,
    [prompts.record_uid] as record_uids

from {{ ref('int_evaluation_prompts_deduplicated') }} as prompts
left join {{ ref('stg_quality__prompt_groups') }} as prompt_groups
    on prompts.prompt_key = prompt_groups.prompt_key

where prompts.status = 'active'
