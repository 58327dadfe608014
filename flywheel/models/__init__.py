"""Hugging Face folders in and out: policies, reward models, the small Llama of the sample world."""
