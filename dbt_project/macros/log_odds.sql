{#
What one vote of an annotator adds to the log-odds of its side: ln(q / (1 - q)) of the accuracy q.
Nobody counts against what was said, and nobody is trusted beyond .98, however rare the errors. Null
where the accuracy is: `greatest` and `least` of DuckDB would pass over it.
#}
{% macro log_odds(accuracy) -%}
    {%- set q = 'greatest(0.5, least(0.98, ' ~ accuracy ~ '))' -%}
    if({{ accuracy }} is null, null, ln({{ q }} / (1 - {{ q }})))
{%- endmacro %}
