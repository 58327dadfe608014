with

ancestors as (

    select
        checkpoint_id,
        list(ancestor_id order by distance, ancestor_id) filter (distance > 0) as ancestor_ids

    from {{ ref('stg_lineage__checkpoint_ancestors') }}

    group by checkpoint_id

),

read_datasets as (

    select
        used.checkpoint_id,
        list(coalesce(frozen.dataset_id, used.dataset) order by used.dataset) as dataset_ids

    from {{ ref('stg_lineage__checkpoint_datasets') }} as used
    -- frozen again without a change, a dataset is of equal content: the first is named
    left join (
        select content_hash, min(dataset_id) as dataset_id
        from {{ ref('stg_lineage__datasets') }}
        group by content_hash
    ) as frozen
        on used.content_hash = frozen.content_hash

    group by used.checkpoint_id

)

select
    checkpoints.checkpoint_id,
    checkpoints.kind,
    checkpoints.name as generation,
    checkpoints.content_hash,
    checkpoints.record_count,
    checkpoints.times_seen,
    coalesce(ancestors.ancestor_ids, []) as ancestor_ids,
    coalesce(read_datasets.dataset_ids, []) as dataset_ids

from {{ ref('stg_lineage__checkpoints') }} as checkpoints
left join ancestors on checkpoints.checkpoint_id = ancestors.checkpoint_id
left join read_datasets on checkpoints.checkpoint_id = read_datasets.checkpoint_id
