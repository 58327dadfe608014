-- Every attempt of an agent, as one table: what deduplication compares and what the marts conclude
-- from is the same, whatever lands in between. A new source is one more line here. An attempt that
-- came without an outcome takes the one that was delivered apart, the newest about this very trial
-- before the newest about its task.

with

unioned as (

    select concat_ws(':', record_uid, copy_number) as trajectory_id, *
    from {{ ref('stg_landing__trajectories') }}

)

select
    unioned.* replace (
        coalesce(outcomes.outcome, unioned.outcome) as outcome,
        coalesce(unioned.reward, outcomes.reward) as reward
    )

from unioned
left join {{ ref('stg_outcomes__trajectories') }} as outcomes
    on unioned.outcome = 'unscored'
    and unioned.source = outcomes.trajectory_source
    and unioned.task_id = outcomes.task_id
    and unioned.trial is not distinct from coalesce(outcomes.trial, unioned.trial)

qualify row_number() over (
    partition by unioned.trajectory_id
    order by outcomes.trial is null, outcomes.first_seen desc, outcomes.outcome_id
) = 1
