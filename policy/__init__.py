"""What decides which units stay."""
