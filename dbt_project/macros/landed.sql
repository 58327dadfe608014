{#
Landed rows with their place in the order of arrival, and which copy of its event a row is. Rows
of equal `event` are one event delivered again, whatever file or source they came through;
original_uid is the record_uid of the first.

Copies are counted on the columns that tell them, and only where the hash of an event stands
twice: a window over whole rows would sort every text of the lake.

What a file leaves empty because another column tells it is filled in: the id of a record that was
given none, the group of a prompt of one turn, and the JSON of a bare string, of the conversations
in `bare` (flywheel/lake/whole.py).
#}
{% macro landed(relation, bare=['prompt'], event='content_sha256') -%}
    with

    repeated as (

        select hash({{ event }}) as event_hash
        from {{ relation }}
        group by event_hash
        having count(*) > 1

    ),

    copies as (

        select
            record_uid,
            row_number() over copies as copy_number,
            first_value(record_uid) over copies as original_uid

        from {{ relation }}

        where hash({{ event }}) in (select event_hash from repeated)

        window copies as (partition by {{ event }} order by batch_id, line_no, record_uid)

    )

    select
        landed.* replace (
            coalesce(landed.record_id, left(landed.content_sha256, 32)) as record_id,
            coalesce(landed.group_hint, 'opening ' || landed.prompt_key) as group_hint
            {%- for name in bare %},
            coalesce(
                landed.{{ name }},
                '[{"role":"{{ 'user' if name == 'prompt' else 'assistant' }}","content":'
                || to_json(landed.{{ name }}_text)::varchar || '}]'
            ) as {{ name }}
            {%- endfor %}
        ),
        landed.batch_id || ':' || lpad(landed.line_no::varchar, 12, '0') as first_seen,
        coalesce(copies.copy_number, 1) as copy_number,
        coalesce(copies.original_uid, landed.record_uid) as original_uid

    from {{ relation }} as landed
    left join copies on landed.record_uid = copies.record_uid
{%- endmacro %}
