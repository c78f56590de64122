"""Training runs of any kind: recipe in, run folder out."""
