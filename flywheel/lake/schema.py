"""The columns of every Parquet file in the lake that is not a raw source.

Landing has one table per kind of record: the same columns in front (who said it, where it lay,
what it was asked), then the kind's own. A conversation is three columns wherever it occurs: its
JSON, its words (`_text`) and the hash of its content (`_key`), so that SQL never parses JSON to
group, count or compare. Times are UTC without a zone, because DuckDB then needs no extension.
"""

import pyarrow as pa

TIME = pa.timestamp("us")  # UTC by rule; a zone in the type would make DuckDB load ICU


def _columns(kind: pa.DataType, *names: str) -> list[pa.Field]:
    return [pa.field(name, kind) for name in names]


def _texts(*names: str) -> list[pa.Field]:
    return _columns(pa.string(), *names)


def _conversation(name: str) -> list[pa.Field]:
    return _texts(name, f"{name}_text", f"{name}_key")


COMMON = [
    *_texts("record_id", "record_uid", "content_sha256", "kind", "source", "batch_id", "file"),
    *_columns(pa.int64(), "line_no", "byte_offset"),
    *_texts("annotator_id", "annotator_kind", "guideline_version"),
    *_columns(pa.float64(), "seconds", "cost_usd"),
    *_texts("licence", "data_subject"),
    *_columns(TIME, "occurred_at"),
    *_texts("domain", "group_hint", "metadata"),
    *_columns(TIME, "landed_at"),
    *_conversation("prompt"),
]

OWN = {
    "demonstration": _conversation("response"),
    "comparison": [
        *_conversation("response_a"),
        *_conversation("response_b"),
        *_texts("choice", "reason", "model_a", "model_b"),
    ],
    "ranking": [
        *_columns(pa.list_(pa.string()), "responses", "response_texts", "response_keys"),
        *_columns(pa.list_(pa.int32()), "ranks"),
        *_columns(pa.list_(pa.string()), "models"),
    ],
    "rating": [
        *_conversation("response"),
        *_columns(pa.float64(), "rating", "rating_min", "rating_max"),
    ],
    "critique": [
        *_conversation("response"),
        *_texts("critique"),
        *_conversation("corrected_response"),
    ],
    "rubric_score": [
        *_conversation("response"),
        *_texts("criterion"),
        *_columns(pa.float64(), "score", "weight"),
    ],
    "trajectory": [
        *_conversation("steps"),
        *_texts("outcome", "task_id"),
        *_columns(pa.int32(), "trial"),
        *_columns(pa.float64(), "reward"),
        *_texts("model"),
        *_columns(pa.int64(), "step_count", "tool_call_count"),
    ],
    "step_rating": [
        *_conversation("steps"),
        *_columns(pa.float64(), "rating", "rating_min", "rating_max"),
        *_texts("model"),
        *_columns(pa.int64(), "step_count"),
    ],
    "interaction": [
        *_conversation("response"),
        *_texts("model", "thumbs"),
        *_conversation("edited_response"),
    ],
    "evaluation_prompt": _texts("evaluation_set", "grader", "reference"),
}

SCHEMAS: dict[str, pa.Schema] = {kind: pa.schema([*COMMON, *own]) for kind, own in OWN.items()}

QUARANTINE: pa.Schema = pa.schema(
    [
        *_texts("batch_id", "file", "kind"),
        *_columns(pa.int64(), "line_no", "byte_offset", "byte_length"),
        *_columns(pa.binary(), "raw"),
        *_texts("reason_kind", "reason", "record_uid"),
        *_columns(TIME, "seen_at"),
    ]
)

DERIVED: dict[str, pa.Schema] = {
    "near_duplicates": pa.schema(
        [
            *_texts("text_key", "role", "status", "representative_key"),
            *_columns(pa.float64(), "jaccard"),
            *_texts("reason"),
        ]
    ),
    "prompt_groups": pa.schema(_texts("prompt_key", "group_id")),
    "contamination": pa.schema(
        [
            *_texts("text_key", "role", "evaluation_set", "evaluation_prompt_key", "kind"),
            *_columns(pa.float64(), "jaccard"),
            *_texts("span"),
        ]
    ),
    "evaluation_overlaps": pa.schema(  # shown, and excludes nothing
        [
            *_texts("text_key", "role", "evaluation_set", "evaluation_prompt_key"),
            *_columns(pa.float64(), "covered_8_frac", "covered_13_frac"),
            *_texts("span"),
        ]
    ),
    "pair_posteriors": pa.schema(
        [
            *_texts("pair_key"),
            *_columns(pa.float64(), "probability_a", "probability_tie"),
            *_columns(pa.int64(), "tested_votes", "tested_votes_right", "tested_votes_for_a"),
        ]
    ),
    "annotator_reliability": pa.schema(
        [
            *_texts("annotator_id", "domain"),  # domain null: overall
            *_columns(pa.bool_(), "is_overall"),
            *_columns(pa.int64(), "vote_count", "compared_count"),
            *_columns(pa.float64(), "agreement_frac", "accuracy_frac"),
            *_columns(pa.float64(), "accuracy_low", "accuracy_high"),
            *_columns(pa.int64(), "gold_count", "gold_right_count"),
            *_columns(pa.int64(), "tested_votes", "tested_votes_right"),
            *_columns(pa.float64(), "length_bias", "length_bias_low", "length_bias_high"),
        ]
    ),
    "label_agreement": pa.schema(
        [
            *_texts("kind", "level", "domain", "guideline_version"),
            *_columns(pa.int64(), "item_count", "label_count"),
            *_columns(pa.float64(), "agreement_frac", "alpha", "alpha_low", "alpha_high"),
        ]
    ),
    "personal_data": pa.schema(_texts("text_key", "role", "personal_data")),
    "checkpoint_ratings": pa.schema(
        [
            *_texts("content_hash", "name", "models", "first_generation"),
            *_columns(pa.bool_(), "is_connected"),
            *_columns(pa.float64(), "rating", "low", "high", "standard_error"),
            *_columns(pa.int64(), "comparison_count", "prompt_count", "opponent_count"),
        ]
    ),
}

# What evaluations measured: written beside each evaluation's result, and never written over.
EVALUATION: dict[str, pa.Schema] = {
    "measurements": pa.schema(
        [
            *_texts("evaluation_id", "generation", "model", "content_hash"),
            *_texts("evaluation_set", "axis", "slice", "metric", "against", "grader"),
            *_columns(pa.float64(), "temperature", "value", "low", "high", "standard_error"),
            *_columns(pa.int64(), "observation_count", "cluster_count", "seed"),
            *_texts("look"),
            *_columns(pa.int64(), "evaluation_set_version"),
            *_texts("evaluation_set_hash", "grader_identity"),
            *_columns(TIME, "evaluated_at"),
        ]
    ),
    "outcomes": pa.schema(
        [
            *_texts("evaluation_id", "generation", "model", "content_hash"),
            *_texts("evaluation_set", "prompt_key", "group_id", "domain", "source", "grader"),
            *_columns(pa.float64(), "temperature", "score"),
            *_columns(pa.int64(), "token_count"),
            *_columns(pa.bool_(), "ended"),
            *_columns(pa.int64(), "evaluation_set_version"),
            *_texts("evaluation_set_hash", "grader_identity", "against", "against_content_hash"),
            *_columns(pa.float64(), "outcome"),  # of a comparison, which has no score
            *_columns(TIME, "evaluated_at"),
        ]
    ),
}

# The lineage: rebuilt from manifests and frozen files at any time.
LINEAGE: dict[str, pa.Schema] = {
    "record_checkpoints": pa.schema(
        [
            *_columns(pa.uint64(), "record_key"),  # 64 bits of the uid's MD5: many are sought by it
            *_texts("record_uid", "checkpoint_id"),
            *_columns(pa.int32(), "times_seen"),
        ]
    ),
    "record_datasets": pa.schema(
        [*_columns(pa.uint64(), "record_key"), *_texts("record_uid", "dataset_id", "split")]
    ),
    "checkpoints": pa.schema(
        [
            *_texts("checkpoint_id", "kind", "name", "content_hash"),
            *_columns(pa.int64(), "record_count", "times_seen"),
        ]
    ),
    "checkpoint_ancestors": pa.schema(
        [*_texts("checkpoint_id", "ancestor_id"), *_columns(pa.int32(), "distance")]
    ),
    "checkpoint_datasets": pa.schema(_texts("checkpoint_id", "dataset", "content_hash")),
    "datasets": pa.schema(
        [
            *_texts("dataset_id", "name", "generation", "content_hash"),
            *_columns(pa.int64(), "row_count", "record_count", "annotator_count"),
            *_columns(pa.float64(), "cost_usd"),
        ]
    ),
}

# Records that were erased: names without what they said, for who asks what was trained on them.
ERASED: pa.Schema = pa.schema([*_texts("record_uid"), *_columns(pa.int64(), "erasure")])

# A table in no known format: the row as it was delivered, as JSON text. One schema for every
# source, so that a new source needs a staging model and nothing else.
RAW: pa.Schema = pa.schema(
    [
        *_texts("source", "batch_id", "file"),
        *_columns(pa.int64(), "line_no", "byte_offset"),
        *_texts("record"),
    ]
)
