"""Results in the formats of other runtimes, by their own converters, compared with the model."""
