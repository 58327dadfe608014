-- Rows of an evaluation never change. Where a generation was evaluated again, the rows of both times
-- stay, and the newer ones are the latest.

with

numbered as (

    select
        *,
        dense_rank() over (
            partition by generation
            order by evaluated_at desc, evaluation_id
        ) as look_from_last

    from {{ ref('stg_evaluation__measurements') }}

)

select
    ---------- ids
    md5(concat_ws(
        ':', evaluation_id, model, evaluation_set, axis, slice, metric, coalesce(against, '-'),
        coalesce(temperature, -1)
    )) as measurement_id,
    evaluation_id,
    generation,
    model,
    content_hash,

    ---------- strings
    evaluation_set,
    evaluation_set_version,
    evaluation_set_hash,
    axis,
    slice,
    metric,
    against,
    grader,
    grader_identity,
    look,

    ---------- numerics
    temperature,
    value,
    low,
    high,
    standard_error,
    observation_count,
    cluster_count,
    seed,

    ---------- booleans
    look_from_last = 1 as is_latest,

    ---------- times
    evaluated_at

from numbered
