"""Measurements of a model: perplexity, multiple choice, latency, and intervals of their differences."""
