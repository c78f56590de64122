"""Families that no file describes: their groups follow from the configuration, and numbers prove them."""
