select * exclude (raw) from {{ source('landing', 'quarantine') }}
