{{ config(severity=env_var('FLYWHEEL_UNSEEN_PROMPTS', 'warn')) }}

-- A prompt without a group was said after the last run of deduplication: its split is a guess and
-- nobody looked whether an evaluation asks nearly the same. A warning in a development warehouse;
-- the wheel sets FLYWHEEL_UNSEEN_PROMPTS=error, so that such a prompt reaches no dataset. There,
-- materialize `duplicates` and build again.

select text_key
from {{ ref('int_texts_marked') }}
where role = 'prompt' and not is_grouped
