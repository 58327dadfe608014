-- A record of a raw source keeps its id when it is delivered again: its first delivery is told.
select
    record_uid,
    record_id,
    kind,
    source,
    domain,
    annotator_id,
    annotator_kind,
    guideline_version,
    licence,
    cost_usd,
    batch_id,
    file,
    line_no

from {{ ref('int_labels_unioned') }}

qualify row_number() over (partition by record_uid order by copy_number, batch_id) = 1
