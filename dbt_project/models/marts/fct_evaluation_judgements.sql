-- What people said of two responses to an evaluation prompt. They train nothing, because their
-- prompt is one that is tested on; an evaluation that compares these very responses counts those
-- of persons.

select
    votes.judgement_id,
    votes.record_uid,
    votes.prompt_key,
    pairs.response_a,
    pairs.response_b,
    votes.vote,
    votes.annotator_id as voter,
    votes.annotator_kind,
    votes.guideline_version,
    votes.source,
    votes.licence,
    votes.seconds,
    votes.cost_usd,
    votes.occurred_at

from {{ ref('int_comparisons_deduplicated') }} as votes
inner join {{ ref('int_votes_counted_by_pair') }} as pairs on votes.pair_key = pairs.pair_key

where
    votes.status = 'active'
    and votes.annotator_kind <> 'model'
    and votes.prompt_key in (select prompt_key from {{ ref('fct_evaluation_prompts') }})
