{{ config(meta={'dagster': {'ref': {'name': 'fct_excluded', 'package': 'flywheel', 'version': none}}}) }}

-- Nothing goes missing without a reason: each landed record is behind a row of a mart (a training
-- mart, or the evaluation's) or in fct_excluded, and never in both.

with

delivered as (

    select label_id, record_uid, copy_number, kind
    from {{ ref('int_labels_unioned') }}
    union all
    select concat_ws(':', record_uid, copy_number), record_uid, copy_number, kind
    from {{ ref('int_evaluation_prompts_deduplicated') }}

),

used as (

    {% for mart in [
        'fct_demonstrations', 'fct_preferences', 'fct_ratings', 'fct_trajectories',
        'fct_step_ratings', 'fct_evaluation_prompts'
    ] %}
    select unnest(record_uids) as record_uid from {{ ref(mart) }}
    {{ 'union all' if not loop.last }}
    {% endfor %}

),

active as (

    -- the number is a column: a left join that compares it with a constant instead would hold
    -- every record against every other
    select distinct record_uid, 1 as copy_number from used

)

select
    delivered.label_id,
    delivered.kind,
    active.record_uid is not null as is_active,
    excluded.exclusion_id is not null as is_excluded

from delivered
left join active
    on delivered.record_uid = active.record_uid and delivered.copy_number = active.copy_number
left join {{ ref('fct_excluded') }} as excluded on delivered.label_id = excluded.exclusion_id

where is_active = is_excluded
