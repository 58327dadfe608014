select * from {{ source('evaluation', 'checkpoint_ratings') }}
