"""What other tools measure: lm-evaluation-harness and inspect_ai."""
