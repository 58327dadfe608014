-- A rating is active unless its record came before, its annotator gave it before, it overlaps an
-- evaluation prompt, or it holds personal data.

with

matched as (

    select
        ratings.*,
        prompts.group_id,
        coalesce(prompts.overlap, responses.overlap) as overlap,
        coalesce(prompts.evaluation_prompt_key, responses.evaluation_prompt_key)
            as evaluation_prompt_key,
        coalesce(responses.personal_data, prompts.personal_data) as personal_data,
        row_number() over same as same_number,
        first_value(ratings.record_uid) over same as first_same

    from {{ ref('int_ratings_unioned') }} as ratings
    left join {{ ref('int_texts_marked') }} as prompts
        on ratings.prompt_key = prompts.text_key and prompts.role = 'prompt'
    left join {{ ref('int_texts_marked') }} as responses
        on ratings.response_key = responses.text_key and responses.role = 'response'

    window same as (
        partition by
            ratings.prompt_key,
            ratings.response_key,
            ratings.criterion,
            ratings.score_frac,
            coalesce(ratings.annotator_id, ratings.rating_id),
            ratings.occurred_at
        order by least(ratings.copy_number, 2), ratings.first_seen, ratings.rating_id
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
                'the annotator gave this rating before'
            )
    end as reason_excluded,
    case status
        when 'contaminated' then evaluation_prompt_key
        when 'duplicate_of' then if(copy_number > 1, original_uid, first_same)
    end as pointer

from matched
