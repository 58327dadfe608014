{# 'train', 'validation' or 'test', fixed for ever by the id: 80 / 5 / 15 in the long run. #}
{% macro split_of(id) -%}
    case
        when ('0x' || left(md5({{ id }}), 8))::bigint % 100 < 80 then 'train'
        when ('0x' || left(md5({{ id }}), 8))::bigint % 100 < 85 then 'validation'
        else 'test'
    end
{%- endmacro %}
