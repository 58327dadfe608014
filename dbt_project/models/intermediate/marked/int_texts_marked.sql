-- What deduplication found about each training text, in one place. A text that came after its last
-- run is a group of its own and repeats nothing yet; only a prompt that an evaluation asks word for
-- word is known without it.

with

found as (

    select text_key, role, evaluation_prompt_key, kind, evaluation_set
    from {{ ref('stg_quality__contamination') }}

    union

    select text_key, role, text_key, 'exact', evaluation_set
    from {{ ref('int_texts') }}
    where is_evaluation

),

leaks as (

    select
        text_key,
        role,
        min(evaluation_prompt_key) as evaluation_prompt_key,
        arg_min(kind || ' overlap with ' || evaluation_set, evaluation_prompt_key) as overlap

    from found

    group by text_key, role

),

prompt_groups as (

    -- the role is a column of both sides: a left join that compares it with a constant instead
    -- would hold every text against every group
    select *, 'prompt' as role from {{ ref('stg_quality__prompt_groups') }}

)

select
    texts.text_key,
    texts.role,
    coalesce(repeats.representative_key, texts.text_key) as representative_key,
    coalesce(prompt_groups.group_id, texts.text_key) as group_id,
    prompt_groups.group_id is not null as is_grouped,
    leaks.evaluation_prompt_key,
    leaks.overlap,
    -- of a trajectory, what the assistant says counts: see int_trajectories_marked
    if(texts.role != 'trajectory', {{ personal_data('texts.text') }}, null) as personal_data

from {{ ref('int_texts') }} as texts
left join {{ ref('stg_quality__near_duplicates') }} as repeats
    on texts.text_key = repeats.text_key and texts.role = repeats.role
left join prompt_groups
    on texts.text_key = prompt_groups.prompt_key and texts.role = prompt_groups.role
left join leaks
    on texts.text_key = leaks.text_key and texts.role = leaks.role

where not texts.is_evaluation
