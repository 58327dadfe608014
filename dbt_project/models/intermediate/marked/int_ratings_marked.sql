-- A rating is active unless its record came before, it overlaps an evaluation prompt, it holds
-- personal data, or its annotator rated the response on that criterion again later.

with

matched as (

    select
        ratings.*,
        prompts.group_id,
        coalesce(prompts.overlap, responses.overlap) as overlap,
        coalesce(prompts.evaluation_prompt_key, responses.evaluation_prompt_key)
            as evaluation_prompt_key,
        coalesce(responses.personal_data, prompts.personal_data) as personal_data,
        row_number() over last_rating as rating_number,
        first_value(ratings.record_uid) over last_rating as kept_uid,
        first_value(ratings.score_frac) over last_rating as kept_score

    from {{ ref('int_ratings_unioned') }} as ratings
    left join {{ ref('int_texts_marked') }} as prompts
        on ratings.prompt_key = prompts.text_key and prompts.role = 'prompt'
    left join {{ ref('int_texts_marked') }} as responses
        on ratings.response_key = responses.text_key and responses.role = 'response'

    window last_rating as (
        partition by
            ratings.prompt_key,
            ratings.response_key,
            ratings.criterion,
            coalesce(ratings.annotator_id, ratings.original_uid)
        order by
            least(ratings.copy_number, 2),
            ratings.occurred_at desc nulls last,
            ratings.first_seen desc,
            ratings.rating_id
    )

)

select
    * exclude (overlap, evaluation_prompt_key, personal_data, rating_number, kept_uid, kept_score),
    case
        when copy_number > 1 then 'duplicate_of'
        when overlap is not null then 'contaminated'
        when personal_data is not null then 'personal_data'
        when rating_number = 1 then 'active'
        when score_frac = kept_score then 'duplicate_of'
        else 'conflict'
    end as status,
    case
        when copy_number > 1 then 'the record was delivered before'
        when status = 'contaminated' then overlap
        when status = 'personal_data' then 'holds ' || personal_data
        when status = 'duplicate_of' then 'the annotator gave this rating again'
        when status = 'conflict' then 'the annotator rated the response otherwise later'
    end as reason_excluded,
    case
        when copy_number > 1 then original_uid
        when status = 'contaminated' then evaluation_prompt_key
        when status in ('duplicate_of', 'conflict') then kept_uid
    end as pointer

from matched
