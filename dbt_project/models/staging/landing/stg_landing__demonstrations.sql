{{ landed('demonstrations') }}
