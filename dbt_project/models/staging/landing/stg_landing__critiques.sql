{{ landed('critiques') }}
