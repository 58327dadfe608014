select * from {{ source('lineage', 'record_checkpoints') }}
