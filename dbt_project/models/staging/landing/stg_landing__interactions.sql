{{ landed('interactions', ['prompt', 'response', 'edited_response']) }}
