"""Networks as graphs, and networks that read and write them."""
