{# The words of a prompt without its system and developer turns; all where it has no other turn. #}
{% macro asked_text(prompt, prompt_text) -%}
    case
        when regexp_matches({{ prompt }}, '"role"\s*:\s*"(system|developer)"')
            then
                coalesce(
                    {{ turns_text(prompt, ['user', 'assistant', 'tool']) }},
                    {{ prompt_text }}
                )
        else {{ prompt_text }}
    end
{%- endmacro %}
