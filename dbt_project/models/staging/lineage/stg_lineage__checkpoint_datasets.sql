select * from {{ source('lineage', 'checkpoint_datasets') }}
