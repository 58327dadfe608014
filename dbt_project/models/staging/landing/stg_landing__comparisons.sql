-- A vote sent again with its sides swapped says something else word for word, but is the same
-- event: one annotator prefers the same response at the same moment.

{% set event %}
    case
        when annotator_id is null or occurred_at is null then content_sha256
        else
            concat_ws(
                '|',
                annotator_id,
                occurred_at,
                prompt_key,
                least(response_a_key, response_b_key),
                greatest(response_a_key, response_b_key),
                case choice when 'a' then response_a_key when 'b' then response_b_key end
            )
    end
{% endset %}

{{ landed(source('landing', 'comparisons'), ['prompt', 'response_a', 'response_b'], event) }}
