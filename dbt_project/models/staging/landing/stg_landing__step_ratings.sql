{{ landed(source('landing', 'step_ratings')) }}
