{{ landed(source('landing', 'critiques'), ['prompt', 'response', 'corrected_response']) }}
