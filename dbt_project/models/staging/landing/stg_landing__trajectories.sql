{{ landed(source('landing', 'trajectories')) }}
