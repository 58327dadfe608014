{#
Rows of a landing table with their place in the order of arrival, and which copy of its event a row
is; original_uid is the record_uid of the first (stg_landing__events).
#}
{% macro landed(table) -%}
    select
        landed.*,
        landed.batch_id || ':' || lpad(landed.line_no::varchar, 12, '0') as first_seen,
        coalesce(copies.copy_number, 1) as copy_number,
        coalesce(copies.original_uid, landed.record_uid) as original_uid

    from {{ source('landing', table) }} as landed
    left join {{ ref('stg_landing__events') }} as copies
        on landed.record_uid = copies.record_uid
        and copies.landed_as = '{{ table }}'
        and copies.copy_number > 1
{%- endmacro %}
