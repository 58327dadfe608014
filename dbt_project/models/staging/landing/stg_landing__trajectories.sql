{{ landed('trajectories') }}
