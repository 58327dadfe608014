{{ landed('step_ratings') }}
