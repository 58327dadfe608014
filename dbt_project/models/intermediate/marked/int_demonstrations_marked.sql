-- A demonstration is active unless its record came before, it overlaps an evaluation prompt, it
-- holds personal data, or another demonstration says the same (or nearly the same) to the same
-- (or nearly same) prompt. Of those that are nearly the same the one stays that holds the texts which
-- they were held against; where none does, the first stays, and what was not held against its texts.

with

matched as (

    select
        demonstrations.*,
        prompts.group_id,
        coalesce(prompts.overlap, responses.overlap) as overlap,
        coalesce(prompts.evaluation_prompt_key, responses.evaluation_prompt_key)
            as evaluation_prompt_key,
        coalesce(responses.personal_data, prompts.personal_data) as personal_data,
        prompts.representative_key as prompt_leader,
        responses.representative_key as response_leader,
        demonstrations.copy_number > 1 as is_copy

    from {{ ref('int_demonstrations_unioned') }} as demonstrations
    left join {{ ref('int_texts_marked') }} as prompts
        on demonstrations.prompt_key = prompts.text_key and prompts.role = 'prompt'
    left join {{ ref('int_texts_marked') }} as responses
        on demonstrations.response_key = responses.text_key and responses.role = 'response'

),

ordered as (

    select
        *,
        first_value(record_uid) over same as first_same,
        row_number() over same as same_number,
        first_value(record_uid) over alike as first_alike,
        first_value(prompt_key) over alike in (prompt_leader, prompt_key)
        and first_value(response_key) over alike in (response_leader, response_key)
            as was_held_against,
        row_number() over alike as alike_number

    from matched

    window
        same as (
            partition by is_copy, overlap is null, prompt_key, response_key
            order by first_seen, demonstration_id
        ),
        alike as (
            partition by
                is_copy, overlap is null, personal_data is null, prompt_leader, response_leader
            order by
                prompt_key = prompt_leader and response_key = response_leader desc,
                first_seen,
                demonstration_id
        )

)

select
    * exclude (
        is_copy, prompt_leader, response_leader, first_same, same_number, first_alike, alike_number,
        overlap, evaluation_prompt_key, personal_data, was_held_against
    ),
    case
        when is_copy then 'duplicate_of'
        when overlap is not null then 'contaminated'
        when personal_data is not null then 'personal_data'
        when same_number > 1 then 'duplicate_of'
        when alike_number > 1 and was_held_against then 'near_duplicate'
        else 'active'
    end as status,
    case status
        when 'contaminated' then overlap
        when 'personal_data' then 'holds ' || personal_data
        when 'near_duplicate' then 'another demonstration is nearly the same'
        when 'duplicate_of'
            then if(is_copy, 'the record was delivered before', 'an earlier demonstration is the same')
    end as reason_excluded,
    case status
        when 'contaminated' then evaluation_prompt_key
        when 'near_duplicate' then first_alike
        when 'duplicate_of' then if(is_copy, original_uid, first_same)
    end as pointer

from ordered
