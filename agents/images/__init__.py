"""Labelled images for training and evaluation, read from files that can hold nothing but numbers."""
