select * from {{ source('quality', 'personal_data') }}
