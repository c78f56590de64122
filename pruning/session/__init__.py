"""An opened model, and the statistics that a run collects on it."""
