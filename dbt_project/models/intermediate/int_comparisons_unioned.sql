-- Every judgement between two responses, whatever form it came in: a choice, a ranking read as
-- its pairs, a correction as better than what it corrects. A new source is one more line here.

with

rankings as (

    select *, unnest(range(1, len(responses) + 1)) as i
    from {{ ref('stg_landing__rankings') }}

),

ranked_pairs as (

    select *, unnest(range(i + 1, len(responses) + 1)) as j, len(responses) as size
    from rankings

),

unioned as (

    select '' as pair_no, 1.0 as weight, *
    from {{ ref('stg_landing__comparisons') }}

    union all by name

    select '' as pair_no, 1.0 as weight, *
    from {{ ref('stg_ukp__comparisons') }}

    union all by name

    select
        * exclude (responses, response_texts, response_keys, ranks, models, i, j, size)
            replace (
                cost_usd * 2 / (size * (size - 1)) as cost_usd,
                seconds * 2 / (size * (size - 1)) as seconds
            ),
        i || '-' || j as pair_no,
        1.0 / (size - 1) as weight,  -- a ranking of K counts K / 2 in all
        responses[i] as response_a,
        response_texts[i] as response_a_text,
        response_keys[i] as response_a_key,
        responses[j] as response_b,
        response_texts[j] as response_b_text,
        response_keys[j] as response_b_key,
        case
            when ranks[i] < ranks[j] then 'a'
            when ranks[i] > ranks[j] then 'b'
            else 'tie'
        end as choice,
        models[i] as model_a,
        models[j] as model_b
    from ranked_pairs

    union all by name

    select
        * exclude (response, response_text, response_key)
            rename (
                corrected_response as response_a,
                corrected_response_text as response_a_text,
                corrected_response_key as response_a_key
            ),
        '' as pair_no,
        1.0 as weight,
        'a' as choice,
        response as response_b,
        response_text as response_b_text,
        response_key as response_b_key
    from {{ ref('stg_landing__critiques') }}
    where corrected_response is not null

    union all by name

    select
        * exclude (response, response_text, response_key)
            rename (
                edited_response as response_a,
                edited_response_text as response_a_text,
                edited_response_key as response_a_key
            ),
        '' as pair_no,
        1.0 as weight,
        'a' as choice,
        response as response_b,
        response_text as response_b_text,
        response_key as response_b_key,
        model as model_b
    from {{ ref('stg_landing__interactions') }}
    where edited_response is not null

)

select
    ---------- ids
    concat_ws(':', record_uid, nullif(pair_no, ''), copy_number) as judgement_id,
    record_uid,
    original_uid,
    copy_number,
    batch_id,
    first_seen,
    annotator_id,
    prompt_key,
    response_a_key,
    response_b_key,

    ---------- strings
    kind,
    source,
    domain,
    group_hint,
    annotator_kind,
    guideline_version,
    licence,
    prompt,
    prompt_text,
    {{ tools_of('metadata') }} as tools,
    response_a,
    response_a_text,
    response_b,
    response_b_text,
    choice,
    reason,
    model_a,
    model_b,

    ---------- booleans
    coalesce(json_extract_string(metadata, '$.gold') = 'true', false) as is_gold,

    ---------- numerics
    weight::double as weight,
    seconds,
    cost_usd,

    ---------- timestamps
    occurred_at

from unioned
