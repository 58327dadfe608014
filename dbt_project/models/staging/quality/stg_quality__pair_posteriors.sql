select * from {{ source('quality', 'pair_posteriors') }}
