{{ landed('critiques', ['prompt', 'response', 'corrected_response']) }}
