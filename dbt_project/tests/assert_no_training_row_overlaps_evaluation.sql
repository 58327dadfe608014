{{ config(meta={'dagster': {'ref': {'name': 'fct_evaluation_prompts', 'package': 'flywheel', 'version': none}}}) }}

-- What is trained on must not hold what is tested on, neither by its mark nor word for word.

with

prompts as (

    {% for mart in ['fct_demonstrations', 'fct_preferences', 'fct_ratings', 'fct_trajectories'] %}
    select '{{ mart }}' as mart, prompt_key from {{ ref(mart) }}
    {{ 'union all' if not loop.last }}
    {% endfor %}

)

select prompts.*
from prompts
where
    prompt_key in (select prompt_key from {{ ref('fct_evaluation_prompts') }})
    or prompt_key in (
        select text_key from {{ ref('int_texts_marked') }}
        where role = 'prompt' and overlap is not null
    )
