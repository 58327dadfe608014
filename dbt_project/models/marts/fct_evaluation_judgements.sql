-- What people said of two responses to an evaluation prompt. They train nothing, because their
-- prompt is one that is tested on; an evaluation that compares these very responses counts them.

select
    judgement_id,
    record_uid,
    prompt_key,
    response_a,
    response_b,
    vote,
    voter,
    annotator_kind,
    guideline_version,
    source,
    licence,
    seconds,
    cost_usd,
    occurred_at

from {{ ref('int_comparisons_deduplicated') }}

where
    status = 'active'
    and annotator_kind <> 'model'
    and prompt_key in (select prompt_key from {{ ref('fct_evaluation_prompts') }})
