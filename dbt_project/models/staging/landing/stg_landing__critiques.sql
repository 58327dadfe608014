{{ landed(source('landing', 'critiques')) }}
