-- By the key of eight bytes, because the names of ten million records are a gigabyte to sort.
select checkpoint_id, record_key
from {{ ref('stg_lineage__record_checkpoints') }}
group by checkpoint_id, record_key
having count(*) > 1
