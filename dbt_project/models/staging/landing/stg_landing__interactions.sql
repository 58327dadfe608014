{{ landed(source('landing', 'interactions'), ['prompt', 'response', 'edited_response']) }}
