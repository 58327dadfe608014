-- Every attempt of an agent, as one table: what deduplication compares and what the marts conclude
-- from is the same, whatever lands in between. A new source is one more line here.

select concat_ws(':', record_uid, copy_number) as trajectory_id, *
from {{ ref('stg_landing__trajectories') }}
