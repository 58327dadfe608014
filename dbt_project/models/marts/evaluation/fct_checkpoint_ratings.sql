select
    content_hash as checkpoint_rating_id,
    name,
    models,
    first_generation,
    is_connected,
    round(rating, 6) as rating,
    round(low, 6) as low,
    round(high, 6) as high,
    round(standard_error, 6) as standard_error,
    comparison_count,
    prompt_count,
    opponent_count

from {{ ref('stg_evaluation__checkpoint_ratings') }}
