select * from {{ source('quality', 'label_agreement') }}
