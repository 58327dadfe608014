{{ landed(source('landing', 'demonstrations'), ['prompt', 'response']) }}
