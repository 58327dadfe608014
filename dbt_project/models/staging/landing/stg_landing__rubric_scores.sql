{{ landed('rubric_scores', ['prompt', 'response']) }}
