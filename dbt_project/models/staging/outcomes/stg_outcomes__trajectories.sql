-- Outcomes come in two shapes: one object per attempt, or the report of SWE-bench, which lists the
-- tasks that a run solved and those that it did not.

with

source as (

    select
        *,
        batch_id || ':' || lpad(line_no::varchar, 12, '0') as first_seen,
        from_json(
            record,
            '{
                "source": "VARCHAR", "task_id": "VARCHAR", "trial": "VARCHAR",
                "outcome": "VARCHAR", "reward": "VARCHAR",
                "resolved_ids": ["VARCHAR"], "unresolved_ids": ["VARCHAR"],
                "empty_patch_ids": ["VARCHAR"], "error_ids": ["VARCHAR"]
            }'
        ) as told

    from {{ source('landing', 'raw_sources') }}

    where source = 'trajectory_outcomes'

),

about as (

    select
        *,
        -- inbox/trajectory_outcomes/run_7.json is about the attempts of inbox/run_7
        coalesce(
            told.source, regexp_extract(file, '([^/]+?)(\.(jsonl?|csv|parquet|gz))*$', 1)
        ) as trajectory_source

    from source

),

unioned as (

    select
        *,
        told.task_id as task_id,
        try_cast(told.trial as integer) as trial,
        told.outcome as outcome,
        try_cast(told.reward as double) as reward
    from about
    where told.task_id is not null

    {% for list, outcome in [
        ('resolved_ids', 'passed'), ('unresolved_ids', 'failed'),
        ('empty_patch_ids', 'failed'), ('error_ids', 'error')
    ] %}
    union all by name

    select *, unnest(told.{{ list }}) as task_id, '{{ outcome }}' as outcome
    from about
    {% endfor %}

)

select
    ---------- ids
    concat_ws(':', first_seen, task_id, outcome) as outcome_id,
    batch_id,
    first_seen,
    trajectory_source,
    task_id,

    ---------- strings
    outcome,

    ---------- numerics
    trial,
    reward

from unioned

-- a row of another shape; assert_every_raw_row_is_read counts it
where outcome in ('passed', 'failed', 'truncated', 'error')
