"""A router for a served model: collect its answers, learn from them, stand before it."""
