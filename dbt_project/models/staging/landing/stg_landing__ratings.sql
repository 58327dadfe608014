{{ landed(source('landing', 'ratings'), ['prompt', 'response']) }}
