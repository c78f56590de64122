"""What pruning is, without any learning: units, plans, cutting, costs, proof."""
