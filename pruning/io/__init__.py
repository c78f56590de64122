"""Files read with bounds and written whole, and what is shown on a terminal."""
