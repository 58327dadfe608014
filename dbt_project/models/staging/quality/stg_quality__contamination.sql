select * from {{ source('quality', 'contamination') }}
