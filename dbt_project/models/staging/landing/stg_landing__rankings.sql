{{ landed('rankings') }}
