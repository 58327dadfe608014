{#
Landed rows with their place in the order of arrival, and which copy of its event a row is. Rows
of equal `event` are one event delivered again, whatever file or source they came through;
original_uid is the record_uid of the first.
#}
{% macro landed(relation, event='content_sha256') -%}
    select
        *,
        batch_id || ':' || lpad(line_no::varchar, 12, '0') as first_seen,
        row_number() over copies as copy_number,
        first_value(record_uid) over copies as original_uid

    from {{ relation }}

    window copies as (partition by {{ event }} order by batch_id, line_no, record_uid)
{%- endmacro %}
