-- A vote keeps its mark, unless its prompt or one of its responses overlaps an evaluation prompt.

select
    comparisons.* exclude (status, reason_excluded, pointer),
    coalesce(prompts.overlap, a.overlap, b.overlap) as leak,
    if(comparisons.copy_number = 1 and leak is not null, 'contaminated', comparisons.status)
        as status,
    if(status = 'contaminated', leak, comparisons.reason_excluded) as reason_excluded,
    if(
        status = 'contaminated',
        coalesce(prompts.evaluation_prompt_key, a.evaluation_prompt_key, b.evaluation_prompt_key),
        comparisons.pointer
    ) as pointer

from {{ ref('int_comparisons_deduplicated') }} as comparisons
left join {{ ref('int_texts_marked') }} as prompts
    on comparisons.prompt_key = prompts.text_key and prompts.role = 'prompt'
left join {{ ref('int_texts_marked') }} as a
    on comparisons.response_a_key = a.text_key and a.role = 'response'
left join {{ ref('int_texts_marked') }} as b
    on comparisons.response_b_key = b.text_key and b.role = 'response'
