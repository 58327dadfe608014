{{ config(severity=env_var('FLYWHEEL_UNSEEN_PROMPTS', 'warn')) }}

-- A text that nobody looked through for personal data: it was said after the last screening. As with
-- prompts that have no group, a warning in a development warehouse and an error in the wheel. There,
-- materialize `personal_data` and build again.

select text_key, role
from {{ ref('int_texts_marked') }}
where not is_screened
