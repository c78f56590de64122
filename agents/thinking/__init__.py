"""Policies that decide when a model should think."""
