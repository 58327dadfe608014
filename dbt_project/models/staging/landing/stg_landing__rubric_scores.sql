{{ landed(source('landing', 'rubric_scores'), ['prompt', 'response']) }}
