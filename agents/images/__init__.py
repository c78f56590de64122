"""Labelled images to learn and to judge on, read from files that can hold nothing but numbers."""
