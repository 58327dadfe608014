select
    md5(concat_ws('|', batch_id, file, kind, reason_kind)) as quarantined_id,
    batch_id,
    file,
    kind,
    reason_kind,
    count(*) as row_count,
    min(reason) as example

from {{ ref('stg_landing__quarantine') }}

group by batch_id, file, kind, reason_kind
