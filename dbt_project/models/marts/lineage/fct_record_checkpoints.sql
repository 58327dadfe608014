-- A checkpoint answers for its ancestors too: what the SFT policy learnt is in the policy that
-- started from it. Nothing is grouped here, so that a question about one record, or one checkpoint,
-- reads little of ten million edges.
select
    edges.record_uid,
    edges.record_key,
    ancestors.checkpoint_id,
    edges.checkpoint_id as seen_by_checkpoint_id,
    edges.times_seen,
    ancestors.distance = 0 as is_direct

from {{ ref('stg_lineage__record_checkpoints') }} as edges
inner join {{ ref('stg_lineage__checkpoint_ancestors') }} as ancestors
    on edges.checkpoint_id = ancestors.ancestor_id

where edges.times_seen > 0
