-- Turns every judgement so that its sides stand in the order of their keys: (x, y) and (y, x) are
-- one pair. One annotator has one vote on a pair, the last one given, or what he gave as gold; any
-- other vote for the same side is a duplicate, for the other side a conflict. A judgement without a choice that is
-- known is no vote. Judgements are marked, never removed.
--
-- Of new batches, only those earlier votes are decided again that the same voter gave on the same pair.
--
-- Words stay where they were said: int_texts fetches those of every text, and
-- int_votes_counted_by_pair those of every pair.

{% set since = built_through() if is_incremental() else none %}

with

turned as (

    select
        * exclude (
            prompt, prompt_text, tools, response_a, response_a_text, response_a_key, response_b,
            response_b_text, response_b_key, model_a, model_b, choice
        ),
        choice as choice_as_shown,
        response_a_key > response_b_key as is_turned,
        if(is_turned, response_b_key, response_a_key) as response_a_key,
        if(is_turned, response_a_key, response_b_key) as response_b_key,
        if(is_turned, model_b, model_a) as model_a,
        if(is_turned, model_a, model_b) as model_b,
        sign(length(response_a_text) - length(response_b_text)) * if(is_turned, -1, 1)
            as longer_side,
        case
            when choice = 'tie' then 0.5
            when choice in ('a', 'b') then if((choice = 'a') <> is_turned, 1.0, 0.0)
        end::double as vote,  -- for response a; null where the choice is no choice

        coalesce(annotator_id, original_uid) as voter  -- without a name, each event is a voice

    from {{ ref('int_comparisons_unioned') }}
    {{ "where batch_id > '" ~ since ~ "'" if since }}

),

arrived as materialized (

    select *, md5(concat_ws('|', prompt_key, response_a_key, response_b_key)) as pair_key
    from turned

),

{% if since %}
keyed as materialized (

    select * from arrived
    union all by name
    select * exclude (status, reason_excluded, pointer)
    from {{ this }}
    where
        hash(pair_key, voter) in (select hash(pair_key, voter) from arrived)
        and batch_id <= '{{ since }}'

),
{% else %}
keyed as not materialized (select * from arrived),
{% endif %}

repeated as (

    -- only where a voter judged a pair again is there anything to decide
    select hash(pair_key, voter) as vote_hash
    from keyed
    group by vote_hash
    having count(*) > 1

),

decided as (

    select
        judgement_id,
        first_value(record_uid) over last_vote as kept_record_uid,
        first_value(vote) over last_vote as kept_vote,
        first_value(is_gold) over last_vote as kept_is_gold,
        row_number() over last_vote as vote_number

    from keyed

    where hash(pair_key, voter) in (select vote_hash from repeated)

    window last_vote as (
        partition by pair_key, voter
        order by
            least(copy_number, 2),
            vote is null,
            is_gold desc nulls last,
            occurred_at desc nulls last,
            first_seen desc,
            judgement_id
    )

)

select
    keyed.*,
    case
        when copy_number > 1 then 'duplicate_of'
        when response_a_key = response_b_key or vote is null then 'void'
        when coalesce(vote_number, 1) = 1 then 'active'
        when vote = kept_vote then 'duplicate_of'
        else 'conflict'
    end as status,
    case
        when status = 'void'
            then if(vote is null, 'the choice is none of a, b and tie', 'both sides are the same response')
        when copy_number > 1 then 'the record was delivered before'
        when status = 'duplicate_of' then 'the annotator gave this vote on the pair again'
        when status = 'conflict'
            then if(kept_is_gold, 'the annotator gave another answer as gold', 'the annotator decided otherwise later')
    end as reason_excluded,
    case
        when copy_number > 1 then original_uid
        when status in ('duplicate_of', 'conflict') then kept_record_uid
    end as pointer

from keyed
left join decided on keyed.judgement_id = decided.judgement_id
