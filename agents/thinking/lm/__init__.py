"""Language models that decide when to think: tasks, a model from nothing, rollouts, losses, evaluation."""
