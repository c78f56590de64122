"""Model folders: find them, open them, check them, cut them."""
