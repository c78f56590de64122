"""prunepolicy: learned policies that decide what to remove from a network."""

__version__ = "0.1.0"
