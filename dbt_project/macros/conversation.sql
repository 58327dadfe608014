{# A raw text as the three columns every conversation has: its JSON, its words, its hash. #}
{% macro conversation(text, role, name) -%}
    json_array(json_object('role', '{{ role }}', 'content', {{ text }}))::varchar as {{ name }},
    {{ text }} as {{ name }}_text,
    md5(rtrim(replace(nfc_normalize({{ text }}), chr(13) || chr(10), chr(10)))) as {{ name }}_key
{%- endmacro %}
