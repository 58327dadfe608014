{{ landed(source('landing', 'comparisons')) }}
