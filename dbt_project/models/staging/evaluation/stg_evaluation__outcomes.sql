select * from {{ source('evaluation', 'outcomes') }}
