"""Recipes and clusters as YAML; a package, so that every way to install takes them along."""
