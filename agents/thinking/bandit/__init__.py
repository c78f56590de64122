"""Learning decisions on prompts without a language model."""
