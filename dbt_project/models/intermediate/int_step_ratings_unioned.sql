-- Every judgement of one step, as a share of full marks. The step is the last of `steps`, and known
-- by all of them: the same step after another history is another step.

select
    concat_ws(':', record_uid, copy_number) as step_rating_id,
    *,
    coalesce((rating - rating_min) / nullif(rating_max - rating_min, 0), 1.0) as score_frac

from {{ ref('stg_landing__step_ratings') }}
