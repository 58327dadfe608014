{{ config(meta={'dagster': {'ref': {'name': 'fct_excluded', 'package': 'flywheel', 'version': none}}}) }}

-- Nothing goes missing without a reason: each record with usable feedback is behind a row of a
-- mart or in fct_excluded, and never in both.

with

usable as (

    select record_uid from {{ ref('int_comparisons_unioned') }}
    union
    select record_uid from {{ ref('int_ratings_unioned') }}

),

delivered as (

    select labels.label_id, labels.record_uid, labels.copy_number, labels.kind
    from {{ ref('int_labels_unioned') }} as labels
    left join usable on labels.record_uid = usable.record_uid

    -- a critique without a correction and a turn without a reaction reach no mart
    where labels.kind not in ('critique', 'interaction') or usable.record_uid is not null

),

active as (

    {% for mart in ['fct_demonstrations', 'fct_preferences', 'fct_ratings', 'fct_trajectories'] %}
    select unnest(record_uids) as record_uid from {{ ref(mart) }}
    {{ 'union' if not loop.last }}
    {% endfor %}

)

select
    delivered.label_id,
    delivered.kind,
    active.record_uid is not null as is_active,
    excluded.exclusion_id is not null as is_excluded

from delivered
left join active on delivered.record_uid = active.record_uid and delivered.copy_number = 1
left join {{ ref('fct_excluded') }} as excluded on delivered.label_id = excluded.exclusion_id

where is_active = is_excluded
