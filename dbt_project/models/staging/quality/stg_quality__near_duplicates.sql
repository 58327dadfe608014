select * from {{ source('quality', 'near_duplicates') }}
