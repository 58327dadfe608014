select
    source || ':' || kind as label_cost_id,
    source,
    kind,
    count(*) as label_count,
    count(distinct annotator_id) as annotator_count,
    count(cost_usd) as paid_count,
    round(coalesce(sum(cost_usd), 0), 6) as cost_usd,
    round(avg(cost_usd), 6) as cost_per_label_usd,
    round(avg(seconds), 6) as seconds_per_label

from {{ ref('int_labels_unioned') }}

where copy_number = 1

group by source, kind
