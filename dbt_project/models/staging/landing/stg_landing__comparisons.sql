{{ landed('comparisons') }}
