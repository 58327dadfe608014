-- What people agreed to, or took back, as they said it one after the other: lines in inbox/consents/.

with

source as (

    select
        *,
        batch_id || ':' || lpad(line_no::varchar, 12, '0') as first_seen,
        from_json(
            record,
            '{
                "consent_id": "VARCHAR", "annotator_id": "VARCHAR", "uses": ["VARCHAR"],
                "expires_at": "VARCHAR", "withdrawn_at": "VARCHAR"
            }'
        ) as told

    from {{ source('landing', 'raw_sources') }}

    where source = 'consents'

)

select
    first_seen as statement_id,
    batch_id,
    first_seen,
    file,
    line_no,
    told.consent_id as consent_id,
    told.annotator_id as annotator_id,
    told.uses as uses,
    told.expires_at as expires_at,
    told.withdrawn_at as withdrawn_at

from source

-- about nobody: assert_every_raw_row_is_read counts it
where told.consent_id is not null or told.annotator_id is not null
