{{ landed('rubric_scores') }}
