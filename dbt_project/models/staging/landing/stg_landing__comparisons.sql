{{ landed('comparisons', ['prompt', 'response_a', 'response_b']) }}
