{#
What a conversation (JSON) opens with, up to and with the first turn of a user, as one hash: equal
for conversations of which one continues the other. All of it where no user speaks; null of null.
#}
{% macro opening(prompt, steps=none) -%}
    {%- set shape = '[{"role": "VARCHAR", "content": "VARCHAR"}]' -%}
    list_transform(
        [
            from_json({{ prompt }}, '{{ shape }}')
            {%- if steps %} || from_json({{ steps }}, '{{ shape }}'){% endif %}
        ],
        lambda turns: 'opening ' || md5(to_json([
            [turn.role, rtrim(nfc_normalize(turn.content))]
            for turn in turns[
                : coalesce(nullif(list_position([one.role for one in turns], 'user'), 0), len(turns))
            ]
        ])::varchar)
    )[1]
{%- endmacro %}
