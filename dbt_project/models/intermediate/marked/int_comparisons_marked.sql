-- A vote keeps its mark, unless its prompt or one of its responses overlaps an evaluation prompt
-- or holds personal data.

with

spoilt_texts as (

    -- few of all: a vote that finds none of its texts here is looked up fast
    select text_key, role, overlap, evaluation_prompt_key, personal_data
    from {{ ref('int_texts_marked') }}
    where overlap is not null or personal_data is not null

),

matched as (

    select
        comparisons.*,
        coalesce(prompts.overlap, a.overlap, b.overlap) as leak,
        coalesce(prompts.evaluation_prompt_key, a.evaluation_prompt_key, b.evaluation_prompt_key)
            as evaluation_prompt_key,
        coalesce(a.personal_data, b.personal_data, prompts.personal_data) as held,
        case
            when comparisons.copy_number > 1 then null
            when leak is not null then 'contaminated'
            when held is not null then 'personal_data'
        end as spoilt

    from {{ ref('int_comparisons_deduplicated') }} as comparisons
    left join spoilt_texts as prompts
        on comparisons.prompt_key = prompts.text_key and prompts.role = 'prompt'
    left join spoilt_texts as a
        on comparisons.response_a_key = a.text_key and a.role = 'response'
    left join spoilt_texts as b
        on comparisons.response_b_key = b.text_key and b.role = 'response'

)

select
    * exclude (evaluation_prompt_key, held, spoilt)
        replace (
            coalesce(spoilt, status) as status,
            case spoilt
                when 'contaminated' then leak
                when 'personal_data' then 'holds ' || held
                else reason_excluded
            end as reason_excluded,
            case
                when spoilt = 'contaminated' then evaluation_prompt_key
                when spoilt is null then pointer
            end as pointer
        )

from matched
