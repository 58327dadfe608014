-- Who judged and wrote, how much, and how far their votes are trusted. Everybody without a name
-- is one row, 'anonymous'.

with

labels as (

    select * replace (coalesce(annotator_id, 'anonymous') as annotator_id)
    from {{ ref('int_labels_unioned') }}
    where copy_number = 1

),

shown as (

    select * replace (coalesce(annotator_id, 'anonymous') as annotator_id)
    from {{ ref('int_comparisons_deduplicated') }}
    where copy_number = 1 and status <> 'void'

),

habits as (

    select
        annotator_id,

        -- the other forms have no left and right, or always the same one on the left
        count(*) filter (kind = 'comparison' and choice_as_shown = 'a')
        / nullif(count(*) filter (kind = 'comparison' and choice_as_shown <> 'tie'), 0) as left_share,
        count(*) filter (status = 'duplicate_of')
        / nullif(count(*) filter (status in ('duplicate_of', 'conflict')), 0) as self_consistency

    from shown

    group by annotator_id

),

counted as (

    select
        annotator_id,
        min(annotator_kind) as annotator_kind,
        count(*) as label_count,
        median(seconds) as median_seconds,
        round(sum(cost_usd), 6) as cost_usd

    from labels

    group by annotator_id

)

select
    counted.annotator_id,
    counted.annotator_kind,
    counted.label_count,
    scored.compared_count,
    scored.agreement_frac,
    scored.accuracy_frac,
    scored.weight,
    habits.left_share,
    habits.self_consistency,
    counted.median_seconds,
    counted.cost_usd

from counted
left join {{ ref('int_annotators_scored') }} as scored
    on counted.annotator_id = scored.annotator_id
left join habits on counted.annotator_id = habits.annotator_id
