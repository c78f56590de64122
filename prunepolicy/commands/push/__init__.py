"""What `prunepolicy push` does: a pruned model goes to the Hugging Face hub."""
