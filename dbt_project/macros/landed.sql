{# Landed rows with their place in the order of arrival, and which copy of its record a row is. #}
{% macro landed(relation) -%}
    select
        *,
        batch_id || ':' || lpad(line_no::varchar, 12, '0') as first_seen,
        row_number() over (partition by record_uid order by batch_id, line_no) as copy_number

    from {{ relation }}
{%- endmacro %}
