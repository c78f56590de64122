"""The network over weights: a metanetwork that reads a network's weights and returns others."""
