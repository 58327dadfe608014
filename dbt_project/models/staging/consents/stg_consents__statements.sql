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
                "expires_at": "VARCHAR", "withdrawn_at": "VARCHAR", "withdrawn": "VARCHAR"
            }'
        ) as told

    from {{ source('landing', 'raw_sources') }}

    where source = 'consents'

),

-- "uses": "evaluate" is no list: it was said, cannot be read, and allows nothing
readable as (

    select
        * exclude (told),
        nullif(trim(told.consent_id), '') as consent_id,
        if(consent_id is null, nullif(trim(told.annotator_id), ''), null) as annotator_id,
        case
            when told.uses is not null then told.uses
            when coalesce(json_type(record, '$.uses'), 'NULL') != 'NULL' then []
        end as uses,
        nullif(told.expires_at, 'false') as expires_at,
        coalesce(nullif(told.withdrawn_at, 'false'), nullif(told.withdrawn, 'false')) as withdrawn_at

    from source

)

select
    first_seen as statement_id,
    batch_id,
    first_seen,
    file,
    line_no,
    consent_id,
    annotator_id,
    -- nothing that can be read was said, so that nothing is allowed
    if(uses is null and expires_at is null and withdrawn_at is null, [], uses) as uses,
    expires_at,
    withdrawn_at

from readable

-- about nobody: assert_every_statement_is_about_somebody refuses it
where consent_id is not null or annotator_id is not null
