-- What deduplication compares: each distinct prompt, response and trajectory once, and again
-- where an evaluation asks it. Prompts that share a hint, a task, or their first turns must share a
-- split: of two conversations that begin alike one may hold the answer to the other. A prompt is
-- compared by what is asked: a long system prompt would make all that stand under it alike.
-- Personal data is looked for in screened_text, which has what comparing leaves out: every turn of
-- a prompt is trained on. Of a trajectory it has what the assistant and the user say; what tools
-- answer (file listings, customer records) is full of names and stays out.

{% set asked = asked_text('prompt', 'prompt_text') %}
{% set spoken = turns_text('steps', ['assistant', 'user']) %}

with

said as (

    select
        'prompt' as role, prompt_key as text_key, {{ asked }} as text,
        prompt_text as screened_text, group_hint, first_seen, source, prompt
    from {{ ref('int_demonstrations_unioned') }}
    union all
    select 'response', response_key, response_text, response_text, null, first_seen, source, null
    from {{ ref('int_demonstrations_unioned') }}
    union all
    select 'prompt', prompt_key, {{ asked }}, prompt_text, group_hint, first_seen, source, prompt
    from {{ ref('int_comparisons_unioned') }}
    union all
    select
        'response', response_a_key, response_a_text, response_a_text, null, first_seen, source,
        null
    from {{ ref('int_comparisons_unioned') }}
    union all
    select
        'response', response_b_key, response_b_text, response_b_text, null, first_seen, source,
        null
    from {{ ref('int_comparisons_unioned') }}
    union all
    select 'prompt', prompt_key, {{ asked }}, prompt_text, group_hint, first_seen, source, prompt
    from {{ ref('int_ratings_unioned') }}
    union all
    select 'response', response_key, response_text, response_text, null, first_seen, source, null
    from {{ ref('int_ratings_unioned') }}
    union all
    select 'prompt', prompt_key, {{ asked }}, prompt_text, group_hint, first_seen, source, prompt
    from {{ ref('int_trajectories_unioned') }}
    union all
    select
        'prompt', prompt_key, {{ asked }}, prompt_text, 'task ' || task_id, first_seen, source,
        prompt
    from {{ ref('int_trajectories_unioned') }}
    union all
    -- where the first user speaks only after the prompt, the opening goes on into the steps
    select
        'prompt', prompt_key, {{ asked }}, prompt_text, {{ opening('prompt', 'steps') }},
        first_seen, source, prompt
    from {{ ref('int_trajectories_unioned') }}
    where not contains(prompt, '"user"')
    union all
    select 'trajectory', steps_key, steps_text, {{ spoken }}, null, first_seen, source, null
    from {{ ref('int_trajectories_unioned') }}
    union all
    select 'prompt', prompt_key, {{ asked }}, prompt_text, group_hint, first_seen, source, prompt
    from {{ ref('int_step_ratings_unioned') }}
    union all
    select 'trajectory', steps_key, steps_text, {{ spoken }}, null, first_seen, source, null
    from {{ ref('int_step_ratings_unioned') }}

),

all_texts as (

    select *, null as evaluation_set from said
    union all
    select
        'prompt', prompt_key, {{ asked }}, prompt_text, group_hint, first_seen, source, prompt,
        evaluation_set
    from {{ ref('int_evaluation_prompts_deduplicated') }}

)

select
    concat_ws(':', role, if(evaluation_set is not null, 'evaluation', 'training'), text_key) as text_id,
    text_key,
    role,
    evaluation_set is not null as is_evaluation,
    min(evaluation_set) as evaluation_set,
    arg_min(text, first_seen) as text,
    arg_min(screened_text, first_seen) as screened_text,
    list_sort(list_distinct(list_filter(
        list(distinct group_hint) || [{{ opening('arg_min(prompt, first_seen)') }}],
        lambda hint: hint is not null
    ))) as group_hints,
    list_sort(list(distinct source)) as sources,
    min(first_seen) as first_seen

from all_texts

group by role, text_key, evaluation_set is not null
