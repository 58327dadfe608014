-- A prompt without a group was said after the last run of deduplication: its split is a guess and
-- nobody looked whether an evaluation asks it. Materialize `duplicates` and build again.

select text_key
from {{ ref('int_texts_marked') }}
where role = 'prompt' and not is_grouped
