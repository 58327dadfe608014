{{ landed('demonstrations', ['prompt', 'response']) }}
