{{ landed(source('landing', 'rubric_scores')) }}
