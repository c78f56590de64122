"""Learning what to remove: the experiment, its cases, its judges, and the card of what was learned."""
