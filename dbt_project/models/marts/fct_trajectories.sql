select
    record_uid as trajectory_id,
    prompt,
    {{ tools_of('metadata') }} as tools,
    steps,
    prompt_key,
    group_id,
    {{ split_of('group_id') }} as split,
    source,
    domain,
    annotator_id,
    task_id,
    trial,
    outcome,
    reward,
    model,
    step_count,
    tool_call_count,
    seconds,
    cost_usd,
    licence,
    [record_uid] as record_uids

from {{ ref('int_trajectories_marked') }}

where status = 'active'
