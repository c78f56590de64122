"""Convolutional networks that are kept as plain folders."""
