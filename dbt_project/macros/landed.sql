{#
Rows of a landing table with their place in the order of arrival, and which copy of its event a row
is; original_uid is the record_uid of the first (stg_landing__events).

What a file leaves empty because another column tells it is filled in: the id of a record that was
given none, the group of a prompt of one turn, and the JSON of a bare string, of the conversations
in `bare` (flywheel/lake/whole.py).
#}
{% macro landed(table, bare=['prompt']) -%}
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

    from {{ source('landing', table) }} as landed
    left join {{ ref('stg_landing__events') }} as copies
        on landed.record_uid = copies.record_uid
        and copies.landed_as = '{{ table }}'
        and copies.copy_number > 1
{%- endmacro %}
