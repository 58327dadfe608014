"""What a checkpoint is worth: graders over held-out prompts, intervals, reports."""
