-- A prompt asked twice by one set counts once, as it was first delivered.

with

ordered as (

    select
        *,
        row_number() over same as same_number,
        first_value(record_uid) over same as first_same

    from {{ ref('stg_landing__evaluation_prompts') }}

    window same as (partition by evaluation_set, prompt_key order by first_seen, record_uid)

)

select
    * exclude (same_number, first_same),
    if(same_number > 1, 'duplicate_of', 'active') as status,
    if(same_number > 1, 'the set asks this prompt already', null) as reason_excluded,
    if(same_number > 1, first_same, null) as pointer

from ordered
