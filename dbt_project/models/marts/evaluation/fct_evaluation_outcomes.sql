select
    ---------- ids
    md5(concat_ws(
        ':', evaluation_id, model, evaluation_set, prompt_key, temperature, coalesce(against, '-')
    )) as evaluation_outcome_id,
    evaluation_id,
    generation,
    model,
    content_hash,
    prompt_key,
    group_id,

    ---------- strings
    evaluation_set,
    evaluation_set_version,
    evaluation_set_hash,
    domain,
    source,
    grader,
    grader_identity,
    against,
    against_content_hash,

    ---------- numerics
    temperature,
    score,
    outcome,
    token_count,

    ---------- booleans
    ended as has_ended,

    ---------- times
    evaluated_at

from {{ ref('stg_evaluation__outcomes') }}
