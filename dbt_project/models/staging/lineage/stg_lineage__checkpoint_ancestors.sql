select * from {{ source('lineage', 'checkpoint_ancestors') }}
