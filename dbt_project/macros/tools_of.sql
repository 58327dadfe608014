{#
The tools that a prompt could be answered with, as JSON text; null where its metadata names none.
They are read as `flywheel/ingest/keys.py` reads them for the key of the prompt.
#}
{% macro tools_of(metadata) -%}
    case
        when json_extract_string({{ metadata }}, '$.tools') not in ('', '[]', '{}', '""', '0', 'false')
            then json_extract_string({{ metadata }}, '$.tools')
    end
{%- endmacro %}
