{{ config(severity=env_var('FLYWHEEL_UNSEEN_PROMPTS', 'warn')) }}

-- A pair without a posterior was judged after labels were last weighed: it has the share of its
-- votes, whoever gave them. A warning in a development warehouse, an error in the wheel; there,
-- materialize `label_weights` and build again.

select preference_id
from {{ ref('fct_preferences') }}
where probability_tie is null
