select * from {{ source('lineage', 'record_datasets') }}
