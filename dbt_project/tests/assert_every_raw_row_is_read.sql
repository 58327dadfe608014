{{ config(
    severity='warn',
    meta={'dagster': {'ref': {'name': 'stg_landing__raw_sources', 'package': 'flywheel', 'version': none}}}
) }}

-- A raw row of a source that staging models read, from which none of them made a row: a renamed
-- column, a list that is null. A warning, so that one odd row stops nothing.

{% set readers = [
    ('ukp_convarg1', 'stg_ukp__comparisons'),
    ('trajectory_outcomes', 'stg_outcomes__trajectories')
] %}

with

read_rows as (

    {% for source, model in readers %}
    select '{{ source }}' as source, first_seen from {{ ref(model) }}
    {{ 'union all' if not loop.last }}
    {% endfor %}

)

select raw_rows.source, raw_rows.batch_id, raw_rows.line_no

from {{ ref('stg_landing__raw_sources') }} as raw_rows
anti join read_rows
    on raw_rows.source = read_rows.source and raw_rows.first_seen = read_rows.first_seen

where raw_rows.source in ({{ "'" ~ readers | map(attribute=0) | unique | join("', '") ~ "'" }})
