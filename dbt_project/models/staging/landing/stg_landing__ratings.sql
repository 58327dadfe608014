{{ landed(source('landing', 'ratings')) }}
