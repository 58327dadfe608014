-- Reliability and cost where they differ: somebody sure in one domain may guess in another.

with

counted as (

    select
        coalesce(annotator_id, 'anonymous') as annotator_id,
        coalesce(domain, 'none') as domain,
        count(*) as label_count,
        round(sum(seconds) / 3600, 6) as hours,
        round(sum(cost_usd), 6) as cost_usd

    from {{ ref('int_labels_unioned') }}

    where copy_number = 1

    group by all

),

trusted as (

    select * replace (coalesce(domain, 'none') as domain)
    from {{ ref('stg_quality__annotator_reliability') }}
    where not is_overall

)

select
    md5(concat_ws('|', counted.annotator_id, counted.domain)) as annotator_domain_id,
    counted.annotator_id,
    counted.domain,
    counted.label_count,
    coalesce(trusted.vote_count, 0) as vote_count,
    coalesce(trusted.compared_count, 0) as compared_count,
    trusted.agreement_frac,
    trusted.accuracy_frac,
    trusted.accuracy_low,
    trusted.accuracy_high,
    round({{ log_odds('trusted.accuracy_frac') }}, 6) as weight,
    coalesce(trusted.gold_count, 0) as gold_count,
    trusted.gold_right_count / nullif(trusted.gold_count, 0) as gold_accuracy_frac,
    counted.hours,
    counted.cost_usd

from counted
left join trusted
    on counted.annotator_id = trusted.annotator_id and counted.domain = trusted.domain
