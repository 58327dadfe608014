select * from {{ source('quality', 'prompt_groups') }}
