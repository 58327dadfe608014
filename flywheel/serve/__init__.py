"""The champion behind an OpenAI-compatible endpoint: what it answers is logged, and judged."""
