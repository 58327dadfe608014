{{ landed('ratings', ['prompt', 'response']) }}
