{#
What a text holds of a person: 'an e-mail address', 'a payment card number', 'a phone number', or
null. Addresses that can be nobody's (example.com, .test) do not count; a card number has its
check digit right; a phone number is international, from + on. Always null where the var
exclude_personal_data is false.
#}
{% macro personal_data(text) -%}
    {%- set address = "[\\w.%+-]+@[A-Za-z0-9-]+(?:\\.[A-Za-z0-9-]+)*\\.[A-Za-z]{2,}" -%}
    {%- set nobodys = "(?i)[@.](?:example\\.(?:com|net|org)|test|invalid)$" -%}
    {%- set whole = "[2-6][0-9]{12,18}" -%}
    {%- set in_groups = "[2-6][0-9]{3}(?:[ -][0-9]{4}){3}|3[0-9]{3}[ -][0-9]{6}[ -][0-9]{5}" -%}
    {%- set card = "(?:^|[^\\w.,+-])(" ~ whole ~ "|" ~ in_groups ~ ")\\b" -%}
    {%- set phone = "(?:^|[^\\w+)])\\+[1-9][0-9]{0,2}(?:[ .()/-]{0,2}[0-9]){7,12}\\b" -%}
    {%- if var('exclude_personal_data') -%}
    case
        when len([
            found for found in regexp_extract_all({{ text }}, '{{ address }}')
            if not regexp_matches(found, '{{ nobodys }}')
        ]) > 0 then 'an e-mail address'
        when len([
            found for found in regexp_extract_all({{ text }}, '{{ card }}', 1)
            if {{ luhn_sum("regexp_replace(found, '[ -]', '', 'g')") }} % 10 = 0
        ]) > 0 then 'a payment card number'
        when regexp_matches({{ text }}, '{{ phone }}') then 'a phone number'
    end
    {%- else -%}
    null::varchar
    {%- endif -%}
{%- endmacro %}


{# Sum of the digits from the right, every second one doubled and its own digits added. #}
{% macro luhn_sum(digits) -%}
    list_sum([
        digit * (2 - place % 2) // 10 + digit * (2 - place % 2) % 10
        for digit, place in [one::int for one in string_split(reverse({{ digits }}), '')]
    ])
{%- endmacro %}
