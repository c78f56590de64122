"""Proof that a pruned model loads, computes and generates, in a process without this package."""
