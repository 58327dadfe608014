select * from {{ source('quality', 'annotator_reliability') }}
