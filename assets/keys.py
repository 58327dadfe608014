"""Names shared between Python assets and dbt models: the whole contract with dbt_project."""

import dagster as dg

PLURALS = {
    "demonstration": "demonstrations",
    "comparison": "comparisons",
    "ranking": "rankings",
    "rating": "ratings",
    "critique": "critiques",
    "rubric_score": "rubric_scores",
    "trajectory": "trajectories",
    "step_rating": "step_ratings",
    "interaction": "interactions",
    "evaluation_prompt": "evaluation_prompts",
}

LANDED = {kind: dg.AssetKey(["landing", plural]) for kind, plural in PLURALS.items()}
QUARANTINE = dg.AssetKey(["landing", "quarantine"])
RAW = dg.AssetKey(["landing", "raw_sources"])

DURABLE_COPY = dg.AssetKey(["landing", "durable_copy"])

INT_TEXTS = dg.AssetKey(["intermediate", "int_texts"])
INT_BATCHES_STAGED = dg.AssetKey(["intermediate", "int_batches_staged"])
INT_COMPARISONS = dg.AssetKey(["intermediate", "int_comparisons_deduplicated"])
INT_RATINGS = dg.AssetKey(["intermediate", "int_ratings_unioned"])

NEAR_DUPLICATES = dg.AssetKey(["quality", "near_duplicates"])
PROMPT_GROUPS = dg.AssetKey(["quality", "prompt_groups"])
CONTAMINATION = dg.AssetKey(["quality", "contamination"])
PAIR_POSTERIORS = dg.AssetKey(["quality", "pair_posteriors"])
ANNOTATOR_RELIABILITY = dg.AssetKey(["quality", "annotator_reliability"])
LABEL_AGREEMENT = dg.AssetKey(["quality", "label_agreement"])
PERSONAL_DATA = dg.AssetKey(["quality", "personal_data"])

FCT_DEMONSTRATIONS = dg.AssetKey(["marts", "fct_demonstrations"])
FCT_PREFERENCES = dg.AssetKey(["marts", "fct_preferences"])
FCT_RATINGS = dg.AssetKey(["marts", "fct_ratings"])
FCT_TRAJECTORIES = dg.AssetKey(["marts", "fct_trajectories"])
FCT_STEP_RATINGS = dg.AssetKey(["marts", "fct_step_ratings"])
FCT_EVALUATION_PROMPTS = dg.AssetKey(["marts", "fct_evaluation_prompts"])
FCT_EVALUATION_JUDGEMENTS = dg.AssetKey(["marts", "fct_evaluation_judgements"])
FCT_EXCLUDED = dg.AssetKey(["marts", "fct_excluded"])
DIM_ANNOTATORS = dg.AssetKey(["marts", "dim_annotators"])
DBT_DOCS = dg.AssetKey(["marts", "dbt_docs"])  # for people: outside the job `turn` as well

# Outside the job `turn`: what was served since a challenger is on its stage judges it.
SERVING_STAGE = dg.AssetKey(["promotion", "serving_stage"])
SERVED_LOG = dg.AssetKey(["promotion", "served_log"])  # nightly: nothing of a turn reads it
PEOPLE_JUDGEMENTS = dg.AssetKey(["evaluation", "people_judgements"])

# Outside the job `turn`: nothing of a turn reads it, and many a home has no step to learn from.
STEP_REWARD_MODEL = dg.AssetKey(["training", "step_reward_model"])
STEP_REWARD_CARD = dg.AssetKey(["training", "step_reward_card"])

DBT_KEYS = [
    INT_TEXTS,
    INT_BATCHES_STAGED,
    INT_COMPARISONS,
    INT_RATINGS,
    FCT_DEMONSTRATIONS,
    FCT_PREFERENCES,
    FCT_RATINGS,
    FCT_TRAJECTORIES,
    FCT_STEP_RATINGS,
    FCT_EVALUATION_PROMPTS,
    FCT_EVALUATION_JUDGEMENTS,
    FCT_EXCLUDED,
    DIM_ANNOTATORS,
]
