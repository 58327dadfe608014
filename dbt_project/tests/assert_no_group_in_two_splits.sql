{{ config(meta={'dagster': {'ref': {'name': 'fct_preferences', 'package': 'flywheel', 'version': none}}}) }}

-- Related prompts must not be trained on in one mart and tested on in another.

with

prompts as (

    {% for mart in [
        'fct_demonstrations', 'fct_preferences', 'fct_ratings', 'fct_trajectories',
        'fct_step_ratings'
    ] %}
    select group_id, prompt_key, split from {{ ref(mart) }}
    {{ 'union all' if not loop.last }}
    {% endfor %}

)

select 'group' as what, group_id as id from prompts group by group_id having min(split) <> max(split)
union all
select 'prompt', prompt_key from prompts group by prompt_key having min(split) <> max(split)
