select
    ---------- ids
    md5(concat_ws(
        ':', evaluation_id, model, evaluation_set, prompt_key, temperature
    )) as evaluation_outcome_id,
    evaluation_id,
    generation,
    model,
    content_hash,
    prompt_key,
    group_id,

    ---------- strings
    evaluation_set,
    domain,
    source,
    grader,

    ---------- numerics
    temperature,
    score,
    token_count,

    ---------- booleans
    ended as has_ended,

    ---------- times
    evaluated_at

from {{ ref('stg_evaluation__outcomes') }}
