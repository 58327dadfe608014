{{ landed(source('landing', 'evaluation_prompts')) }}
