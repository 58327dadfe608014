-- How far to trust an annotator: on pairs that others judged too, how often the annotator sides
-- with what the others lean to. A tie, on the annotator's side, agrees half. Few pairs say little,
-- so the rate is shrunk to the crowd's by a Beta prior.

with

votes as (

    select annotator_id, 2 * vote - 1 as leaning, pair_key
    from {{ ref('int_comparisons_deduplicated') }}
    where status = 'active'

),

against_others as (

    select
        annotator_id,
        leaning,
        sum(leaning) over (partition by pair_key) - leaning as others_leaning

    from votes

),

agreements as (

    select
        annotator_id,
        count(*) as vote_count,
        count(*) filter (others_leaning <> 0) as compared_count,
        coalesce(sum((1 + leaning * sign(others_leaning)) / 2) filter (others_leaning <> 0), 0)
            as agreed_count

    from against_others

    group by annotator_id

),

crowd as (

    select
        coalesce(
            sum(agreed_count) / nullif(sum(compared_count), 0), {{ var('unmeasured_accuracy') }}
        ) as mean_accuracy

    from agreements

)

select
    coalesce(annotator_id, 'anonymous') as annotator_id,
    vote_count,
    compared_count,
    agreed_count / nullif(compared_count, 0) as agreement_frac,
    round(
        case
            when annotator_id is null then mean_accuracy
            else
                (agreed_count + {{ var('prior_labels') }} * mean_accuracy)
                / (compared_count + {{ var('prior_labels') }})
        end,
        9
    ) as accuracy_frac,
    round(greatest(0.05, least(1.0, (accuracy_frac - 0.5) * 2)), 9)::double as weight

from agreements
cross join crowd
