-- Which batches are in the tables that the marts are made of. A dataset is frozen with the newest of
-- them, whatever has landed since.

with

rows_staged as (

    select batch_id from {{ ref('int_labels_unioned') }}
    union all
    select batch_id from {{ ref('int_evaluation_prompts_deduplicated') }}
    union all
    select batch_id from {{ ref('stg_landing__raw_sources') }}

)

select
    batch_id,
    regexp_extract(batch_id, '^b([0-9]+)-', 1)::bigint as batch_number,
    count(*) as row_count

from rows_staged

group by batch_id
