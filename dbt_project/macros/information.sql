{#
What a vote of this accuracy tells of which side is better, in bits: 1 for one that is always right,
0 for a coin (the capacity of a binary symmetric channel, Shannon, 1948). Below .5 it tells nothing,
because nobody counts against what he said.
#}
{% macro information(accuracy) -%}
    {%- set q = 'greatest(0.5, least(0.999999, ' ~ accuracy ~ '))' -%}
    if(
        {{ accuracy }} is null,
        null,
        round(1 + {{ q }} * log2({{ q }}) + (1 - {{ q }}) * log2(1 - {{ q }}), 6)
    )
{%- endmacro %}
