{{ landed(source('landing', 'rankings')) }}
