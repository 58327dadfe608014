{# The words of the turns of a conversation (JSON) that have one of `roles`; null where none has. #}
{% macro turns_text(conversation, roles) -%}
    nullif(
        array_to_string(
            flatten([
                [turn.content] || [
                    call.name || '(' || call.arguments || ')'
                    for call in coalesce(turn.tool_calls, [])
                ]
                for turn in from_json(
                    {{ conversation }},
                    '[{
                        "role": "VARCHAR", "content": "VARCHAR",
                        "tool_calls": [{"name": "VARCHAR", "arguments": "JSON"}]
                    }]'
                )
                if turn.role in ('{{ roles | join("', '") }}')
            ]),
            chr(10)
        ),
        ''
    )
{%- endmacro %}
