-- Pairs that count, with their group and what their crowd thinks. A contaminated text contaminates
-- every vote on its pair, so the pair goes as a whole. Of a pair that came after the last weighing of
-- labels nothing is known. With every batch nearly all of this is new, so it is narrow: what was said of
-- a pair and by whom stays in int_votes_counted_by_pair.

select
    counted.pair_key,
    prompts.group_id,
    weighed.* exclude (pair_key)

from {{ ref('int_votes_counted_by_pair') }} as counted
inner join {{ ref('int_texts_marked') }} as prompts
    on counted.prompt_key = prompts.text_key and prompts.role = 'prompt'
left join {{ ref('stg_quality__pair_posteriors') }} as weighed
    on counted.pair_key = weighed.pair_key

where
    counted.pair_key in (
        select pair_key from {{ ref('int_comparisons_marked') }} where status = 'active'
    )
