"""flywheel turns the feedback a team owns into better open-weight checkpoints."""
