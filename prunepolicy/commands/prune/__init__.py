"""Prune a model: plan, cut, repair, prove, measure; also along a frontier of budgets."""
