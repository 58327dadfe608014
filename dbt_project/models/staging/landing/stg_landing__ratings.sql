{{ landed('ratings') }}
