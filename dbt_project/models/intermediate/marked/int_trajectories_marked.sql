-- A trajectory is active unless its record came before, it overlaps an evaluation prompt, its
-- prompt or assistant tells personal data, or the same trial of the same task took the same steps
-- before.

with

matched as (

    select
        trajectories.*,
        prompts.group_id,
        coalesce(prompts.overlap, steps.overlap) as overlap,
        coalesce(prompts.evaluation_prompt_key, steps.evaluation_prompt_key)
            as evaluation_prompt_key,
        coalesce(prompts.personal_data, steps.personal_data) as personal_data,
        row_number() over same as same_number,
        first_value(trajectories.record_uid) over same as first_same

    from {{ ref('int_trajectories_unioned') }} as trajectories
    left join {{ ref('int_texts_marked') }} as prompts
        on trajectories.prompt_key = prompts.text_key and prompts.role = 'prompt'
    left join {{ ref('int_texts_marked') }} as steps
        on trajectories.steps_key = steps.text_key and steps.role = 'trajectory'

    window same as (
        partition by
            trajectories.prompt_key,
            trajectories.steps_key,
            trajectories.task_id,
            trajectories.trial
        order by
            least(trajectories.copy_number, 2), trajectories.first_seen, trajectories.record_uid
    )

)

select
    * exclude (overlap, evaluation_prompt_key, personal_data, same_number, first_same),
    case
        when copy_number > 1 then 'duplicate_of'
        when overlap is not null then 'contaminated'
        when personal_data is not null then 'personal_data'
        when same_number > 1 then 'duplicate_of'
        else 'active'
    end as status,
    case status
        when 'contaminated' then overlap
        when 'personal_data' then 'holds ' || personal_data
        when 'duplicate_of'
            then if(
                copy_number > 1,
                'the record was delivered before',
                'an earlier attempt took the same steps'
            )
    end as reason_excluded,
    case status
        when 'contaminated' then evaluation_prompt_key
        when 'duplicate_of' then if(copy_number > 1, original_uid, first_same)
    end as pointer

from matched
