select
    record_uid,
    record_key,
    dataset_id,
    split

from {{ ref('stg_lineage__record_datasets') }}
