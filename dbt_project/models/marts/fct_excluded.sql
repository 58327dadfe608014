-- Every record that reached no mart, with the reason. A record that feeds several rows (a ranking, a
-- correction) is excluded only where all of them are; what weighs most is its status.

with

marked as not materialized (

    select record_uid, copy_number, kind, source, status, reason_excluded, pointer
    from {{ ref('int_demonstrations_marked') }}
    union all
    select record_uid, copy_number, kind, source, status, reason_excluded, pointer
    from {{ ref('int_comparisons_marked') }}
    union all
    select record_uid, copy_number, kind, source, status, reason_excluded, pointer
    from {{ ref('int_ratings_marked') }}
    union all
    select record_uid, copy_number, kind, source, status, reason_excluded, pointer
    from {{ ref('int_trajectories_marked') }}
    union all
    select record_uid, copy_number, kind, source, status, reason_excluded, pointer
    from {{ ref('int_step_ratings_marked') }}
    union all
    select record_uid, copy_number, kind, source, status, reason_excluded, pointer
    from {{ ref('int_evaluation_prompts_deduplicated') }}
    union all
    select record_uid, copy_number, kind, source, status, reason_excluded, pointer
    from {{ ref('int_records_unused') }}

),

left_out as (

    -- few of all: only their rows are grouped
    select record_uid from marked where status <> 'active'

),

ranked as (

    select
        *,
        list_position(
            [
                'active', 'contaminated', 'personal_data', 'conflict', 'duplicate_of',
                'near_duplicate', 'void', 'unused'
            ],
            status
        ) as place

    from marked

    where record_uid in (select record_uid from left_out)

)

select
    concat_ws(':', record_uid, copy_number) as exclusion_id,
    record_uid,
    kind,
    arg_min(source, place) as source,
    arg_min(status, place) as status,
    arg_min(reason_excluded, place) as reason,
    arg_min_null(pointer, place) as pointer

from ranked

group by record_uid, copy_number, kind

having min(place) > 1
