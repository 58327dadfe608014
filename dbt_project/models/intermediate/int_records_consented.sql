-- Records that name the consent they were given under. Their terms are read where a dataset is frozen
-- (flywheel/rights), because what is allowed depends on the day.
{% set since = built_through() if is_incremental() else none %}
{% set kinds = [
    'demonstrations', 'comparisons', 'rankings', 'ratings', 'critiques', 'rubric_scores',
    'trajectories', 'step_ratings', 'interactions', 'evaluation_prompts'
] %}

{% for kind in kinds %}
select
    record_uid,
    json_extract(metadata, '$.consent') as consent
from {{ ref('stg_landing__' ~ kind) }}
where contains(metadata, '"consent"') and json_type(metadata, '$.consent') != 'NULL'
{{ "and batch_id > '" ~ since ~ "'" if since }}
{{ 'union all' if not loop.last }}
{% endfor %}
