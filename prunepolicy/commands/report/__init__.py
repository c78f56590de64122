"""What a pruned model's folder says of it: report, card, plots; and a plan on a terminal."""
