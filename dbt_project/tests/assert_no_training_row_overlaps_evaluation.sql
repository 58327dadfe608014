{{ config(meta={'dagster': {'ref': {'name': 'fct_evaluation_prompts', 'package': 'flywheel', 'version': none}}}) }}

-- What is trained on must not hold what is tested on, neither by the mark of any of its texts nor
-- word for word.

{% set texts = [
    ('fct_demonstrations', 'prompt', 'prompt_key'),
    ('fct_demonstrations', 'response', 'response_key'),
    ('fct_preferences', 'prompt', 'prompt_key'),
    ('fct_preferences', 'response', 'response_a_key'),
    ('fct_preferences', 'response', 'response_b_key'),
    ('fct_ratings', 'prompt', 'prompt_key'),
    ('fct_ratings', 'response', 'response_key'),
    ('fct_trajectories', 'prompt', 'prompt_key'),
    ('fct_step_ratings', 'prompt', 'prompt_key'),
    ('fct_step_ratings', 'trajectory', 'steps_key')
] %}

with

trained_on as (

    {% for mart, role, key in texts %}
    select '{{ mart }}' as mart, '{{ role }}' as role, {{ key }} as text_key from {{ ref(mart) }}
    union all
    {% endfor %}
    select 'fct_trajectories', 'trajectory', attempts.steps_key
    from {{ ref('fct_trajectories') }} as trajectories
    inner join {{ ref('int_trajectories_marked') }} as attempts
        on trajectories.trajectory_id = attempts.record_uid and attempts.copy_number = 1

)

select trained_on.*
from trained_on
left join {{ ref('int_texts_marked') }} as texts
    on trained_on.text_key = texts.text_key and trained_on.role = texts.role
where
    texts.overlap is not null
    or (
        trained_on.role = 'prompt'
        and trained_on.text_key in (select prompt_key from {{ ref('fct_evaluation_prompts') }})
    )
