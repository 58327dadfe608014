{{ config(meta={'dagster': {'ref': {'name': 'fct_preferences', 'package': 'flywheel', 'version': none}}}) }}

-- Prompts of one root (their first turns, their task, a group given with them) must not be trained
-- on in one mart and tested on in another: one conversation may hold the answer to the other. This
-- looks at the roots themselves, not at the groups made of them. Prompts that deduplication has not
-- seen yet are told by assert_every_prompt_has_a_group.

with

prompts as (

    {% for mart in [
        'fct_demonstrations', 'fct_preferences', 'fct_ratings', 'fct_trajectories',
        'fct_step_ratings'
    ] %}
    select prompt_key, split from {{ ref(mart) }}
    {{ 'union all' if not loop.last }}
    {% endfor %}

),

roots as (

    select texts.text_key, unnest(texts.group_hints) as root
    from {{ ref('int_texts') }} as texts
    inner join {{ ref('int_texts_marked') }} as marked
        on texts.text_key = marked.text_key and marked.role = 'prompt' and marked.is_grouped
    where texts.role = 'prompt'

)

select roots.root
from prompts
inner join roots on prompts.prompt_key = roots.text_key
group by roots.root
having min(prompts.split) <> max(prompts.split)
