select
    dataset_id,
    name,
    generation,
    content_hash,
    row_count,
    record_count,
    annotator_count,
    cost_usd

from {{ ref('stg_lineage__datasets') }}
