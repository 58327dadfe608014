{#
When a source was loaded last, for `dbt source freshness`. One in which nothing has landed yet is not
stale: most homes never see a ranking, and a fresh one has seen nothing.
#}
{% macro duckdb__collect_freshness(source, loaded_at_field, filter) -%}
    {%- call statement('collect_freshness', fetch_result=True, auto_begin=False) -%}
    select
        coalesce(max({{ loaded_at_field }}), get_current_timestamp() at time zone 'UTC')::timestamp
            as max_loaded_at,
        (get_current_timestamp() at time zone 'UTC')::timestamp as snapshotted_at

    from {{ source }}
    {{ 'where ' ~ filter if filter }}
    {%- endcall -%}
    {{ return(load_result('collect_freshness')) }}
{%- endmacro %}
