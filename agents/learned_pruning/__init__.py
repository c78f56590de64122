"""Learning what to remove: the course, its cases, its judges, and the card of what was learned."""
