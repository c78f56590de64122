"""The network over unit groups: an actor-critic that reads statistics of a network's groups."""
