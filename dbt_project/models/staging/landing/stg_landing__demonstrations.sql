{{ landed(source('landing', 'demonstrations')) }}
