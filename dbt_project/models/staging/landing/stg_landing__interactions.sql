{{ landed(source('landing', 'interactions')) }}
