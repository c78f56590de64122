"""Learning what to remove: the experiment, its cases, its evaluation, and the card of what was learned."""
