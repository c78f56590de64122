"""Metanetworks in use: networks to learn from, what happens to a network before and after its cut, reports."""
