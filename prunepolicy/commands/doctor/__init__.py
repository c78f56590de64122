"""What a model is and what it takes to prune it, before anything is pruned."""
