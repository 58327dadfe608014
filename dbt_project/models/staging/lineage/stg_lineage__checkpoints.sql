select * from {{ source('lineage', 'checkpoints') }}
