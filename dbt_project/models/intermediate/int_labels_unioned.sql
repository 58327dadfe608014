-- Every record of feedback, for counting labels and what they cost, and for tracing where one came from.
-- Rows of later batches change none of earlier ones.
{% set since = built_through() if is_incremental() else none %}
{% set kinds = [
    'landing__demonstrations', 'landing__comparisons', 'landing__rankings', 'landing__ratings',
    'landing__critiques', 'landing__rubric_scores', 'landing__trajectories', 'landing__interactions',
    'landing__step_ratings', 'ukp__comparisons'
] %}

{% for kind in kinds %}
select
    concat_ws(':', record_uid, copy_number) as label_id,
    record_uid,
    record_id,
    copy_number,
    batch_id,
    file,
    line_no,
    kind,
    source,
    domain,
    annotator_id,
    annotator_kind,
    guideline_version,
    licence,
    seconds,
    cost_usd
from {{ ref('stg_' ~ kind) }}
{{ "where batch_id > '" ~ since ~ "'" if since }}
{{ 'union all' if not loop.last }}
{% endfor %}
