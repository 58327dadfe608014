{{ landed('evaluation_prompts') }}
