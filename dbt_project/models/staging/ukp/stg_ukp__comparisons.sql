-- UKPConvArg1 comes as one JSON object per pair of arguments, with all its labels in a list.

with

source as (

    select
        *,
        from_json(
            record,
            '{
                "pair_id": "VARCHAR", "topic_stance": "VARCHAR", "debate_title": "VARCHAR",
                "arg1": {"id": "VARCHAR", "text": "VARCHAR"},
                "arg2": {"id": "VARCHAR", "text": "VARCHAR"},
                "labels": [{
                    "worker_id": "VARCHAR", "value": "VARCHAR", "reason": "VARCHAR",
                    "accepted": "VARCHAR", "submitted": "VARCHAR"
                }]
            }'
        ) as pair

    from {{ source('landing', 'raw_sources') }}

    where source = 'ukp_convarg1'

),

labels as (

    select
        * exclude (record, pair),
        pair.*,
        unnest(pair.labels) as label,
        generate_subscripts(pair.labels, 1) as label_no,
        'Give an argument in the debate "' || pair.debate_title || '" for the side "'
            || split_part(pair.topic_stance, '_', -1) || '".' as prompt_words

    from source

),

renamed as (

    select
        ---------- ids
        md5(concat_ws('|', source, pair_id, label_no, label.worker_id)) as record_uid,
        record_uid as original_uid,
        pair_id || ':' || label_no as record_id,  -- the label by the name its file has for it
        batch_id,
        file,
        line_no,
        batch_id || ':' || lpad(line_no::varchar, 12, '0') as first_seen,
        source || ':' || md5(label.worker_id) as annotator_id,  -- a pseudonym

        ---------- strings
        'comparison' as kind,
        source,
        'person' as annotator_kind,
        case label.value when 'a1' then 'a' when 'a2' then 'b' when 'equal' then 'tie' end as choice,
        label.reason as reason,
        'CC BY 4.0' as licence,
        null::varchar as guideline_version,
        debate_title as domain,
        debate_title as group_hint,
        null::varchar as model_a,  -- who wrote an argument is not in the file
        null::varchar as model_b,
        {{ conversation('prompt_words', 'user', 'prompt') }},
        {{ conversation('arg1.text', 'assistant', 'response_a') }},
        {{ conversation('arg2.text', 'assistant', 'response_b') }},

        ---------- numerics
        row_number() over (
            partition by source, pair_id, label_no, label.worker_id order by batch_id, line_no
        ) as copy_number,
        epoch(try_strptime(left(label.submitted, 19), '%Y-%m-%d %H:%M:%S'))
            - epoch(try_strptime(left(label.accepted, 19), '%Y-%m-%d %H:%M:%S')) as seconds,
        null::double as cost_usd,

        ---------- timestamps
        try_strptime(left(label.submitted, 19), '%Y-%m-%d %H:%M:%S') as occurred_at

    from labels

)

select *
from renamed

-- a row of another shape; assert_every_raw_row_is_read counts it
where prompt_key is not null and response_a_key is not null and response_b_key is not null
