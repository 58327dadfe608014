{#
The lower ('-') or upper ('+') end of the 95 % interval of a share among `made` trials (Wilson, 1927):
within 0..1 and not of no width where all went one way. Null where nothing was tried.
#}
{% macro wilson(share, made, end) -%}
    {%- set z = 1.959964 -%}
    round(
        (
            {{ share }} + {{ z * z / 2 }} / nullif({{ made }}, 0)
            {{ end }} {{ z }} * sqrt(
                {{ share }} * (1 - {{ share }}) / nullif({{ made }}, 0)
                + {{ z * z / 4 }} / nullif({{ made }} * {{ made }}, 0)
            )
        ) / (1 + {{ z * z }} / nullif({{ made }}, 0)),
        6
    )
{%- endmacro %}
