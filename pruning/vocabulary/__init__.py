"""The tokenizer of a model whose vocabulary shrinks: which tokens can go, and what is left without them."""
