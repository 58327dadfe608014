select * from {{ source('evaluation', 'measurements') }}
