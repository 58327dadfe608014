select
    source,
    batch_id,
    line_no,
    batch_id || ':' || lpad(line_no::varchar, 12, '0') as first_seen

from {{ source('landing', 'raw_sources') }}
