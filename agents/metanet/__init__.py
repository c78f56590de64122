"""Metanetworks in use: networks to learn from, what becomes of a network, reports."""
