"""Learning how much a served model is to think about a request, from its own answers."""
