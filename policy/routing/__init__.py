"""How much to think about a request: what is read from its text, and where servers expect the budget."""
