-- How far to trust an annotator: the accuracy at which the votes on pairs that several judged are
-- most likely, by EM (Dawid and Skene, "Maximum likelihood estimation of observer error-rates",
-- 1979, with one error rate an annotator: sides are ordered by key, so neither is the likelier).
-- In turns, every pair is concluded from the accuracies and every accuracy from the conclusions.
-- Few votes say little, so an accuracy is shrunk to the crowd's, and the crowd's to a guess. A tie
-- takes no side and is left out; everybody without a name is one annotator here.

{% set rounds = 10 %}  -- the accuracies of a dozen annotators move less than .01 after that
{% set prior_labels = var('prior_labels') %}

with

votes as materialized (

    select
        coalesce(annotator_id, 'anonymous') as annotator_id,
        pair_key,
        2 * vote - 1 as side

    from {{ ref('int_comparisons_deduplicated') }}

    where status = 'active'

),

shared_votes as materialized (

    select *
    from votes
    where side <> 0
    qualify count(*) over (partition by pair_key) > 1

),

accuracies_0 as (

    select distinct annotator_id, {{ var('unmeasured_accuracy') }} as accuracy
    from shared_votes

),

{% for round in range(1, rounds + 1) %}
pairs_{{ round }} as (

    select
        shared_votes.pair_key,
        1 / (1 + exp(-sum(shared_votes.side * {{ log_odds('accuracies.accuracy') }})))
            as probability_a

    from shared_votes
    inner join accuracies_{{ round - 1 }} as accuracies
        on shared_votes.annotator_id = accuracies.annotator_id

    group by shared_votes.pair_key

),

right_{{ round }} as (

    select
        shared_votes.annotator_id,
        count(*) as compared_count,
        sum(if(side > 0, pairs.probability_a, 1 - pairs.probability_a)) as right_count

    from shared_votes
    inner join pairs_{{ round }} as pairs on shared_votes.pair_key = pairs.pair_key

    group by shared_votes.annotator_id

),

crowd_{{ round }} as (

    select
        (coalesce(sum(right_count), 0) + {{ prior_labels }} * {{ var('unmeasured_accuracy') }})
        / (coalesce(sum(compared_count), 0) + {{ prior_labels }}) as accuracy

    from right_{{ round }}

),

accuracies_{{ round }} as materialized (

    select
        annotator_id,
        compared_count,
        right_count,
        (right_count + {{ prior_labels }} * crowd.accuracy) / (compared_count + {{ prior_labels }})
            as accuracy

    from right_{{ round }}
    cross join crowd_{{ round }} as crowd

),

{% endfor %}
annotators as (

    select annotator_id, count(*) as vote_count
    from votes
    group by annotator_id

)

select
    annotators.annotator_id,
    annotators.vote_count,
    coalesce(scored.compared_count, 0) as compared_count,
    round(scored.right_count / scored.compared_count, 6) as agreement_frac,
    round(coalesce(scored.accuracy, crowd.accuracy), 6) as accuracy_frac,
    round({{ log_odds('accuracy_frac') }}, 6) as weight

from annotators
cross join crowd_{{ rounds }} as crowd
left join accuracies_{{ rounds }} as scored on annotators.annotator_id = scored.annotator_id
