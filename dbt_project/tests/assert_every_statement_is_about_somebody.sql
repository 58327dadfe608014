{{ config(
    meta={'dagster': {'ref': {'name': 'stg_consents__statements', 'package': 'flywheel', 'version': none}}}
) }}

-- A line in inbox/consents that names neither a consent nor a person, by a misspelt key: somebody may
-- have taken back what would be trained on.

select raw_rows.batch_id, raw_rows.line_no

from {{ ref('stg_landing__raw_sources') }} as raw_rows
anti join {{ ref('stg_consents__statements') }} as statements
    on raw_rows.first_seen = statements.first_seen

where raw_rows.source = 'consents'
