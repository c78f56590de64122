"""A model that chooses its feed-forward channels at run time, from the text that it reads."""
