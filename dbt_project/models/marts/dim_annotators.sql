-- Who judged and wrote, how much, at what price, and how far their votes are trusted. Everybody
-- without a name is one row, 'anonymous'.

{% set fast = 0.333 %}  -- of the median time of all labels of a kind from a source
{% set least_timed = 10 %}  -- labels with a time, before anybody is called fast

with

labels as (

    select
        * replace (coalesce(annotator_id, 'anonymous') as annotator_id),
        seconds < {{ fast }} * median(seconds) over (partition by source, kind) as is_fast

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
        count(*) filter (kind = 'comparison' and choice_as_shown <> 'tie') as sided_count,
        count(*) filter (kind = 'comparison' and choice_as_shown = 'a')
        / nullif(sided_count, 0) as left_share,
        count(*) filter (status in ('duplicate_of', 'conflict')) as repeated_count,
        count(*) filter (status = 'duplicate_of') / nullif(repeated_count, 0) as self_consistency

    from shown

    group by annotator_id

),

counted as (

    select
        annotator_id,
        min(annotator_kind) as annotator_kind,
        count(*) as label_count,
        round(sum(seconds) / 3600, 6) as hours,
        median(seconds) as median_seconds,
        count(seconds) as timed_count,
        count(*) filter (is_fast) / nullif(timed_count, 0) as fast_frac,
        round(sum(cost_usd), 6) as cost_usd

    from labels

    group by annotator_id

),

trusted as (

    select *, {{ information('accuracy_frac') }} as information_frac
    from {{ ref('stg_quality__annotator_reliability') }}
    where is_overall

)

select
    ---------- who, and how much
    counted.annotator_id,
    counted.annotator_kind,
    counted.label_count,
    coalesce(trusted.vote_count, 0) as vote_count,
    coalesce(trusted.compared_count, 0) as compared_count,

    ---------- reliability
    trusted.agreement_frac,
    trusted.accuracy_frac,
    trusted.accuracy_low,
    trusted.accuracy_high,
    round({{ log_odds('trusted.accuracy_frac') }}, 6) as weight,
    coalesce(trusted.gold_count, 0) as gold_count,
    trusted.gold_right_count / nullif(trusted.gold_count, 0) as gold_accuracy_frac,
    coalesce(trusted.tested_votes, 0) as tested_votes,
    trusted.tested_votes_right / nullif(trusted.tested_votes, 0) as agreement_with_others_frac,
    coalesce(habits.repeated_count, 0) as repeated_count,
    habits.self_consistency,

    ---------- bias
    habits.left_share,
    {{ wilson('habits.left_share', 'habits.sided_count', '-') }} as left_share_low,
    {{ wilson('habits.left_share', 'habits.sided_count', '+') }} as left_share_high,
    trusted.length_bias,
    trusted.length_bias_low,
    trusted.length_bias_high,

    ---------- time
    counted.hours,
    counted.median_seconds,
    counted.fast_frac,
    coalesce(counted.timed_count >= {{ least_timed }} and counted.fast_frac > 0.5, false) as is_fast,

    ---------- money
    counted.cost_usd,
    round(counted.label_count * trusted.information_frac, 6) as effective_label_count,
    round(counted.cost_usd / nullif(effective_label_count, 0), 6) as cost_per_effective_label_usd

from counted
left join trusted on counted.annotator_id = trusted.annotator_id
left join habits on counted.annotator_id = habits.annotator_id
